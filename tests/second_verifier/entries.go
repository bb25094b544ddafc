package main

// V3: each entry is canonical JSON (RFC 8785, in the profile that entries have), a whole envelope of this log, and the
// next in the chain of its ticket.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
)

var emptyRoot = tlog.Hash(sha256.Sum256(nil))

// An entry is an envelope, and where it stands.
type entry struct {
	index  int
	Log    string          `json:"log"`
	Ticket string          `json:"ticket"`
	Seq    int64           `json:"seq"`
	Prev   *string         `json:"prev"`
	Type   string          `json:"type"`
	At     string          `json:"at"`
	Data   json.RawMessage `json:"data"`
	Actor  struct {
		ID  string `json:"id"`
		Via string `json:"via"`
	} `json:"actor"`
	time time.Time
}

type link struct {
	seq  int64
	hash string
}

var kind = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*/[1-9][0-9]{0,5}$`)

const instant = "2006-01-02T15:04:05.000000Z"

// readEnvelopes returns the entries before the first fault, and the fault.
func (l *ledger) readEnvelopes(origin string) ([]*entry, error) {
	last := map[string]link{}
	read := []*entry{}
	for index, raw := range l.entries {
		if err := canonical(raw); err != nil {
			return read, wrong("leaf %d: %v", index, err)
		}
		made := &entry{index: index}
		fields := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &fields); err != nil {
			return read, wrong("leaf %d: %v", index, err)
		}
		for _, name := range []string{"v", "log", "ticket", "seq", "prev", "type", "actor", "at", "data"} {
			if _, ok := fields[name]; !ok {
				return read, wrong("leaf %d: it has no %s", index, name)
			}
			delete(fields, name)
		}
		delete(fields, "sig")
		if len(fields) > 0 || json.Unmarshal(raw, made) != nil {
			return read, wrong("leaf %d: it is not an envelope", index)
		}
		var err error
		if made.time, err = time.Parse(instant, made.At); err != nil || made.time.Format(instant) != made.At {
			return read, wrong("leaf %d: at is not an instant", index)
		}
		if !kind.MatchString(made.Type) || made.Actor.ID == "" || made.Ticket == "" || len(made.Data) == 0 || made.Data[0] != '{' {
			return read, wrong("leaf %d: type, actor, ticket or data is not as it must be", index)
		}
		if made.Log != origin {
			return read, wrong("leaf %d: it belongs to the log %q", index, made.Log)
		}
		before, known := last[made.Ticket]
		if made.Seq != before.seq+1 && known || !known && made.Seq != 0 {
			return read, wrong("leaf %d: seq %d does not follow in ticket %q", index, made.Seq, made.Ticket)
		}
		if known && (made.Prev == nil || *made.Prev != before.hash) || !known && made.Prev != nil {
			return read, wrong("leaf %d: prev is not the entry before it in ticket %q", index, made.Ticket)
		}
		hash := tlog.RecordHash(raw)
		last[made.Ticket] = link{made.Seq, "sha256:" + hex.EncodeToString(hash[:])}
		read = append(read, made)
	}
	return read, nil
}

// canonical reads the one spelling of an object that is allowed, and nothing else.
func canonical(raw []byte) error {
	r := &reader{raw: raw}
	if len(raw) == 0 || raw[0] != '{' {
		return wrong("it is not a JSON object")
	}
	if !r.value(24) || r.at != len(raw) {
		return wrong("it is not canonical at byte %d", r.at)
	}
	return nil
}

type reader struct {
	raw []byte
	at  int
}

func (r *reader) peek() byte {
	if r.at < len(r.raw) {
		return r.raw[r.at]
	}
	return 0
}

func (r *reader) skip(text string) bool {
	if len(r.raw)-r.at >= len(text) && string(r.raw[r.at:r.at+len(text)]) == text {
		r.at += len(text)
		return true
	}
	return false
}

func (r *reader) value(depth int) bool {
	switch c := r.peek(); {
	case c == '{' || c == '[':
		return depth > 0 && r.group(c, depth)
	case c == '"':
		return r.text()
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	}
	return r.skip("true") || r.skip("false") || r.skip("null")
}

func (r *reader) group(open byte, depth int) bool {
	r.at++
	end, last := byte(']'), ""
	if open == '{' {
		end = '}'
	}
	if r.peek() == end {
		r.at++
		return true
	}
	for {
		if open == '{' {
			from := r.at + 1
			if r.peek() != '"' || !r.text() {
				return false
			}
			key := string(r.raw[from : r.at-1])
			for _, c := range []byte(key) {
				if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_') {
					return false
				}
			}
			if key <= last || !r.skip(":") {
				return false
			}
			last = key
		}
		if !r.value(depth - 1) {
			return false
		}
		if r.peek() == end {
			r.at++
			return true
		}
		if !r.skip(",") {
			return false
		}
	}
}

func (r *reader) number() bool {
	from := r.at
	r.skip("-")
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.at++
	}
	text := string(r.raw[from:r.at])
	n, err := strconv.ParseInt(text, 10, 64)
	return err == nil && strconv.FormatInt(n, 10) == text && n < 1<<53 && n > -(1<<53)
}

// text reads a string: UTF-8 as it is, but for quote, backslash and control characters, each escaped in one way.
func (r *reader) text() bool {
	r.at++
	for r.at < len(r.raw) {
		c := r.raw[r.at]
		switch {
		case c == '"':
			r.at++
			return true
		case c == '\\':
			if !r.escape() {
				return false
			}
		case c < 0x20:
			return false
		default:
			n, size := utf8.DecodeRune(r.raw[r.at:])
			if n == utf8.RuneError && size <= 1 {
				return false
			}
			r.at += size
		}
	}
	return false
}

func (r *reader) escape() bool {
	for _, short := range []string{`\"`, `\\`, `\b`, `\t`, `\n`, `\f`, `\r`} {
		if r.skip(short) {
			return true
		}
	}
	if !r.skip(`\u00`) || len(r.raw)-r.at < 2 {
		return false
	}
	text := string(r.raw[r.at : r.at+2])
	n, err := strconv.ParseUint(text, 16, 8)
	if err != nil || n >= 0x20 || n >= 8 && n <= 10 || n == 12 || n == 13 {
		return false
	}
	r.at += 2
	return text == hex.EncodeToString([]byte{byte(n)})
}
