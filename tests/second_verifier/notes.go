package main

// V1: notes, keys, witnesses and quorum.

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const maxNote = 64 * 1024

// A head is a checkpoint: where it lies, its bytes, and what it says.
type head struct {
	where string
	note  []byte
	tree  tlog.Tree
	bad   error  // its text is no checkpoint
	log   string // its origin
	times []int64
}

var decimal = regexp.MustCompile(`^(0|[1-9][0-9]{0,18})$`)

// readHeads reads the newest checkpoint first, then every kept one, smallest first.
func readHeads(dir, kept string) ([]*head, error) {
	newest, err := readHead(filepath.Join(dir, "checkpoint"), "checkpoint")
	if err != nil {
		return nil, err
	}
	heads := []*head{newest}
	names, _ := filepath.Glob(filepath.Join(dir, "checkpoints", "*"))
	sizes := []int{}
	for _, name := range names {
		base := filepath.Base(name)
		size, err := strconv.Atoi(base)
		if err != nil || !decimal.MatchString(base) {
			return nil, wrong("checkpoints/%s is not named after a size", base)
		}
		sizes = append(sizes, size)
	}
	sort.Ints(sizes)
	for _, size := range sizes {
		where := fmt.Sprintf("checkpoints/%d", size)
		each, err := readHead(filepath.Join(dir, where), where)
		if err != nil {
			return nil, err
		}
		if each.bad == nil && each.tree.N != int64(size) {
			each.bad = wrong("%s: it covers %d entries", where, each.tree.N)
		}
		heads = append(heads, each)
	}
	if kept != "" {
		each, err := readHead(kept, "the kept checkpoint")
		if err != nil {
			return nil, err
		}
		heads = append(heads, each)
	}
	return heads, nil
}

func readHead(path, where string) (*head, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, wrong("%s: it cannot be read", where)
	}
	made := &head{where: where, note: raw}
	made.bad = made.parse()
	return made, nil
}

// parse reads origin, size and root, and nothing else: an extension line is refused.
func (h *head) parse() error {
	if len(h.note) > maxNote {
		return wrong("%s: it is longer than %d bytes", h.where, maxNote)
	}
	at := bytes.LastIndex(h.note, []byte("\n\n"))
	if at < 0 {
		return wrong("%s: it is not a note", h.where)
	}
	lines := strings.Split(string(h.note[:at+1]), "\n")
	if len(lines) != 4 {
		return wrong("%s: it has %d lines, not origin, size and root", h.where, len(lines)-1)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || !decimal.MatchString(lines[1]) {
		return wrong("%s: its size is no number", h.where)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return wrong("%s: its root is not 32 bytes in base64", h.where)
	}
	h.log = lines[0]
	h.tree.N = size
	copy(h.tree.Hash[:], root)
	return nil
}

// A trust is an auditor's trust file.
type trust struct {
	logs      []note.Verifier
	witnesses map[string]note.Verifier
	groups    map[string]group
	quorum    string
}

type group struct {
	needed  int
	members []string
}

func (t *trust) origin() string { return t.logs[0].Name() }

func readTrust(path string) (*trust, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	made := &trust{witnesses: map[string]note.Verifier{}, groups: map[string]group{}}
	for number, line := range strings.Split(string(raw), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		var err error
		switch {
		case words[0] == "log" && len(words) > 1:
			var key note.Verifier
			key, err = note.NewVerifier(words[1])
			made.logs = append(made.logs, key)
		case words[0] == "witness" && len(words) > 2:
			made.witnesses[words[1]], err = newCosigner(words[2])
		case words[0] == "group" && len(words) > 3:
			made.groups[words[1]], err = newGroup(words[2], words[3:])
		case words[0] == "quorum" && len(words) == 2:
			made.quorum = words[1]
		default:
			err = fmt.Errorf("no such line")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d of the trust file: %w", number+1, err)
		}
	}
	if len(made.logs) == 0 || made.quorum == "" {
		return nil, fmt.Errorf("the trust file names no log or no quorum")
	}
	return made, nil
}

func newGroup(count string, members []string) (group, error) {
	needed := len(members)
	var err error
	if count == "any" {
		needed = 1
	} else if count != "all" {
		needed, err = strconv.Atoi(count)
	}
	return group{needed, members}, err
}

// A cosigner verifies signatures of type 0x04: eight bytes of time, then Ed25519 over time and checkpoint.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("not a vkey")
	}
	id, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, fmt.Errorf("not a cosigner's Ed25519 key")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if binary.BigEndian.Uint32(sum[:]) != uint32(id) {
		return nil, fmt.Errorf("the key has another id")
	}
	return &cosigner{parts[0], uint32(id), ed25519.PublicKey(key[1:])}, nil
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }
func (c *cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	text := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(c.key, []byte(text), sig[8:])
}

// judgeAll says which checkpoint is not signed as the trust file asks.
func (t *trust) judgeAll(heads []*head) error {
	for _, each := range append(append([]*head{}, heads[1:]...), heads[0]) {
		if err := t.judge(each); err != nil {
			return err
		}
	}
	if t.quorum != "none" && !t.met(t.quorum, heads[0]) {
		return wrong("checkpoint: the quorum %s has not cosigned it", t.quorum)
	}
	return nil
}

func (t *trust) judge(h *head) error {
	if h.bad != nil {
		return h.bad
	}
	known := append([]note.Verifier{}, t.logs...)
	for _, each := range t.witnesses {
		known = append(known, each)
	}
	opened, err := note.Open(h.note, note.VerifierList(known...))
	if err != nil {
		return wrong("%s: %v", h.where, err)
	}
	signed := false
	for _, sig := range opened.Sigs {
		for _, log := range t.logs {
			signed = signed || (sig.Name == log.Name() && sig.Hash == log.KeyHash() && h.log == log.Name())
		}
		for _, each := range t.witnesses {
			if sig.Name == each.Name() && sig.Hash == each.KeyHash() {
				raw, _ := base64.StdEncoding.DecodeString(sig.Base64)
				h.times = append(h.times, int64(binary.BigEndian.Uint64(raw[4:])))
			}
		}
	}
	if !signed {
		return wrong("%s: it is not signed by the key of its own log", h.where)
	}
	return nil
}

func (t *trust) met(name string, h *head) bool {
	if g, ok := t.groups[name]; ok {
		count := 0
		for _, member := range g.members {
			if t.met(member, h) {
				count++
			}
		}
		return count >= g.needed
	}
	key, ok := t.witnesses[name]
	if !ok {
		return false
	}
	opened, err := note.Open(h.note, note.VerifierList(key))
	return err == nil && len(opened.Sigs) > 0
}
