package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// timeForm is the one way in which a time is written: always as long, always
// UTC, so that times compare as strings.
const timeForm = "2006-01-02T15:04:05.000000Z"

// The bounds of a record. What is longer is cut, and a mark says how much is
// gone: a client decides how long its words are, and must not decide how long
// our lines are.
const (
	maxName = 64  // kind, id, channel, direction, verb, verdict, in bytes
	maxText = 512 // command, rule, reason
	maxItem = 256 // one peer, one opinion
	maxList = 256 // peers, opinions
	maxLine = 1 << 20
)

// NewID returns a fresh identifier for an operation: 10 hex digits that nobody
// can foresee.
func NewID() string {
	var b [5]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// cut bounds s to max bytes of valid UTF-8.
func cut(s string, max int) string {
	if len(s) <= max && utf8.ValidString(s) {
		return s
	}
	whole := len(s)
	if whole > max {
		end := max
		for end > max-utf8.UTFMax && end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	kept := len(s)
	s = strings.ToValidUTF8(s, "\uFFFD")
	if whole > max {
		s += "…[+" + strconv.Itoa(whole-kept) + "]"
	}
	return s
}

// cutAll bounds a list and each of its items.
func cutAll(in []string) []string {
	if len(in) == 0 {
		return nil
	}
	out := make([]string, 0, min(len(in), maxList+1))
	for i, s := range in {
		if i == maxList {
			out = append(out, "…[+"+strconv.Itoa(len(in)-i)+" more]")
			break
		}
		out = append(out, cut(s, maxItem))
	}
	return out
}

// bounded returns e as it will be written: every string valid and short
// enough, the time in our form or empty.
func bounded(e Event) (Event, error) {
	e.Kind = Kind(cut(string(e.Kind), maxName))
	if e.Kind == "" {
		return e, errors.New("audit record without a kind")
	}
	e.ID = cut(e.ID, maxName)
	if e.ID == "" && (e.Kind == KindIntent || e.Kind == KindOutcome || e.Kind == KindInterrupted) {
		// Nobody could ever tell which intent such an outcome belongs to.
		return e, fmt.Errorf("audit record of kind %s without an id", e.Kind)
	}
	if e.Time != "" {
		t, err := time.Parse(time.RFC3339Nano, e.Time)
		if err != nil || t.UTC().Year() < 0 || t.UTC().Year() > 9999 {
			return e, fmt.Errorf("audit record with the time %q: not RFC 3339", cut(e.Time, maxName))
		}
		e.Time = t.UTC().Format(timeForm)
	}
	for _, s := range []*string{&e.Channel, &e.Direction, &e.Verb, &e.Verdict} {
		*s = cut(*s, maxName)
	}
	for _, s := range []*string{&e.Command, &e.Rule, &e.Reason, &e.Digest} {
		*s = cut(*s, maxText)
	}
	e.Peers, e.Opinions = cutAll(e.Peers), cutAll(e.Opinions)
	return e, nil
}

// appendHead writes the part of a line that is known only when its turn comes.
func appendHead(b []byte, seq uint64, time string) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, `,"time":"`...)
	b = append(b, time...)
	return append(b, '"')
}

// appendTail writes the rest of the line, with its newline. e is bounded.
func appendTail(b []byte, e *Event) []byte {
	text := func(name, s string) {
		if s != "" {
			b = appendString(append(b, name...), s)
		}
	}
	list := func(name string, l []string) {
		if len(l) == 0 {
			return
		}
		b = append(b, name...)
		for i, s := range l {
			if i == 0 {
				b = append(b, '[')
			} else {
				b = append(b, ',')
			}
			b = appendString(b, s)
		}
		b = append(b, ']')
	}
	b = appendString(append(b, `,"kind":`...), string(e.Kind))
	text(`,"id":`, e.ID)
	if e.ClientUID != nil {
		b = strconv.AppendUint(append(b, `,"client_uid":`...), uint64(*e.ClientUID), 10)
	}
	if e.PID != 0 {
		b = strconv.AppendInt(append(b, `,"pid":`...), int64(e.PID), 10)
	}
	text(`,"channel":`, e.Channel)
	text(`,"direction":`, e.Direction)
	text(`,"verb":`, e.Verb)
	text(`,"command":`, e.Command)
	list(`,"peers":`, e.Peers)
	text(`,"verdict":`, e.Verdict)
	text(`,"rule":`, e.Rule)
	text(`,"reason":`, e.Reason)
	list(`,"opinions":`, e.Opinions)
	if e.Exit != nil {
		b = strconv.AppendInt(append(b, `,"exit":`...), int64(*e.Exit), 10)
	}
	if e.Count != 0 {
		b = strconv.AppendInt(append(b, `,"count":`...), int64(e.Count), 10)
	}
	text(`,"digest":`, e.Digest)
	return append(b, '}', '\n')
}

// appendString writes a JSON string that shows on a terminal as what it is:
// everything that does not print, or that would change how its neighbours
// print (escapes, bidi, zero width, line ends), is escaped.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c < 0x20 || c == 0x7f:
				b = appendEscape(b, rune(c))
			default:
				b = append(b, c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		case unicode.IsPrint(r):
			b = append(b, s[i:i+n]...)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			b = appendEscape(appendEscape(b, hi), lo)
		default:
			b = appendEscape(b, r)
		}
		i += n
	}
	return append(b, '"')
}

func appendEscape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// head is what can be read from the start of a line without parsing the whole.
type head struct {
	seq      uint64
	time     string
	kind, id string
}

var errLine = errors.New("not a line that this log writes")

// parseHead reads the start of a line: seq, time and kind in this order, then
// the id if there is one.
func parseHead(line []byte) (head, error) {
	var h head
	rest, ok := bytes.CutPrefix(line, []byte(`{"seq":`))
	if !ok {
		return h, errLine
	}
	n := 0
	for n < len(rest) && n < 20 && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	seq, err := strconv.ParseUint(string(rest[:n]), 10, 64)
	if err != nil || n > 1 && rest[0] == '0' {
		return h, errLine
	}
	h.seq = seq
	rest, ok = bytes.CutPrefix(rest[n:], []byte(`,"time":"`))
	if !ok || len(rest) < len(timeForm) || !isTime(rest[:len(timeForm)]) {
		return h, errLine
	}
	h.time = string(rest[:len(timeForm)])
	rest, ok = bytes.CutPrefix(rest[len(timeForm):], []byte(`","kind":"`))
	if !ok {
		return h, errLine
	}
	if h.kind, rest, ok = plain(rest); !ok || h.kind == "" {
		return h, errLine
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"id":"`)); ok {
		if h.id, rest, ok = plain(rest); !ok {
			return h, errLine
		}
	}
	if len(rest) == 0 || rest[len(rest)-1] != '}' {
		return h, errLine
	}
	return h, nil
}

// plain reads a JSON string up to its closing quote.
func plain(b []byte) (string, []byte, bool) {
	for i, c := range b {
		switch c {
		case '"':
			return string(b[:i]), b[i+1:], true
		case '\\':
			return escaped(b)
		}
	}
	return "", nil, false
}

// escaped is plain for a string with escapes in it, which our own kinds and
// ids never have.
func escaped(b []byte) (string, []byte, bool) {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			var s string
			whole := append([]byte{'"'}, b[:i+1]...)
			if json.Unmarshal(whole, &s) != nil {
				return "", nil, false
			}
			return s, b[i+1:], true
		}
	}
	return "", nil, false
}

// isTime reports whether b has the shape of timeForm. It does not ask whether
// there is such a day.
func isTime(b []byte) bool {
	for i := range len(timeForm) {
		c := timeForm[i]
		if c >= '0' && c <= '9' {
			if b[i] < '0' || b[i] > '9' {
				return false
			}
		} else if b[i] != c {
			return false
		}
	}
	return true
}

// parseLine reads a whole line, without its newline. Members that this
// version does not know are passed over, so that a log outlives a downgrade.
func parseLine(line []byte) (Event, error) {
	var e Event
	h, err := parseHead(line)
	if err != nil {
		return e, err
	}
	if !utf8.Valid(line) {
		return e, errors.New("not UTF-8")
	}
	for _, c := range line {
		if c < 0x20 || c == 0x7f {
			return e, errors.New("a raw control character")
		}
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("not JSON: %w", err)
	}
	if e.Seq != h.seq || e.Time != h.time || string(e.Kind) != h.kind || e.ID != h.id {
		return e, errors.New("says a thing twice, and differently")
	}
	return e, nil
}
