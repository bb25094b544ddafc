// A second verifier of exported ledgers, on other foundations than the first: Go, and golang.org/x/mod/sumdb for notes
// and trees. It shares no code with Muniment. Tests damage ledgers and ask both.
//
//	second_verifier [-since CHECKPOINT] [-levels V1,V2] DIR TRUST
//
// DIR is what `muniment ledger export` writes, TRUST the auditor's trust file (C2SP tlog-policy), CHECKPOINT one that the
// auditor kept. One JSON document on stdout: for each level what is wrong first, or null. Built without modules, against
// Debian's golang-golang-x-mod-dev. Its TileHashReader is not used: in version 0.7.0 it lets altered tiles of level 1
// through (CVE-2026-56865). Every tile is made from the entries and compared.
//
// V1, V2, V3 and V5 are whole. Of V4 there are the rules that matter most: nobody alone, nothing without approval,
// nothing after its end, no disablement lifted by one alone.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

// A fault says what is wrong first, and where.
type fault struct{ sentence string }

func (f *fault) Error() string { return f.sentence }

func wrong(format string, words ...any) error { return &fault{fmt.Sprintf(format, words...)} }

func main() {
	since := flag.String("since", "", "a checkpoint that the auditor kept")
	only := flag.String("levels", "V1,V2,V3,V4,V5", "which levels")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: second_verifier [-since CHECKPOINT] [-levels V1,V2] DIR TRUST")
		os.Exit(2)
	}
	trust, err := readTrust(flag.Arg(1))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	levels := verify(flag.Arg(0), trust, *since, *only)
	said := map[string]any{}
	for name, err := range levels {
		said[name] = nil
		if err != nil {
			said[name] = err.Error()
		}
	}
	json.NewEncoder(os.Stdout).Encode(said)
}

// verify looks at one level after the other; each says by itself what is wrong.
func verify(dir string, trust *trust, kept, only string) map[string]error {
	heads, err := readHeads(dir, kept)
	if err != nil {
		return map[string]error{"V1": err}
	}
	levels := map[string]error{"V1": trust.judgeAll(heads)}
	log, err := readEntries(dir, heads)
	if err == nil {
		err = log.verifyTree(dir, heads)
	}
	levels["V2"] = err
	if log != nil && strings.Contains(only, "V3") {
		entries, err := log.readEnvelopes(trust.origin())
		levels["V3"] = err
		levels["V4"] = rules(entries)
		levels["V5"] = times(entries, heads)
	}
	return levels
}
