package adapter

import (
	"strings"
	"unicode/utf8"
)

// Bounds, in bytes, on a tool's own words.
const (
	maxToolText  = 2048 // shown to a client
	maxLastError = 200  // shown in a status
	maxTail      = 4096 // kept of a child's standard error
)

// clean makes a tool's words fit to be handed on: valid UTF-8, no control
// characters but line ends and tabs, and no longer than max bytes.
func clean(s string, max int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
	if len(s) <= max {
		return s
	}
	cut := max - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

const hidden = "[path]"

// hideBelow replaces every path at or below folder. Where such a path ends is
// a guess, because names may have spaces in them: it goes on as long as
// another word of the same line has a slash in it, or to the quotation mark
// that closes the one in front of it. Too much is hidden rather than too
// little.
func hideBelow(s, folder string) string {
	folder = strings.TrimRight(folder, "/")
	if folder == "" {
		return s
	}
	var b strings.Builder
	for {
		i := strings.Index(s, folder)
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		b.WriteString(hidden)
		s = s[i+pathEnd(s, i):]
	}
}

// pathEnd is the length of the path that starts at s[i].
func pathEnd(s string, i int) int {
	rest := s[i:]
	if n := strings.IndexByte(rest, '\n'); n >= 0 {
		rest = rest[:n]
	}
	if i > 0 && strings.IndexByte("\"'`", s[i-1]) >= 0 {
		if n := strings.IndexByte(rest, s[i-1]); n >= 0 {
			return n
		}
		return len(rest)
	}
	end := strings.LastIndexByte(rest, '/')
	if end < 0 {
		end = 0
	}
	if n := strings.IndexAny(rest[end:], " \t"); n >= 0 {
		return end + n
	}
	return len(rest)
}

// brief puts a child's last words into one short line without any path.
func brief(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		s = s[i+1:]
	}
	words := strings.Fields(clean(s, maxTail))
	for i, w := range words {
		if strings.ContainsAny(w, `/\`) {
			words[i] = hidden
		}
	}
	return clean(strings.Join(words, " "), maxLastError)
}

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

func (t *tail) add(p []byte) {
	if len(p) >= maxTail {
		t.b = append(t.b[:0], p[len(p)-maxTail:]...)
		return
	}
	if over := len(t.b) + len(p) - maxTail; over > 0 {
		t.b = t.b[:copy(t.b, t.b[over:])]
	}
	t.b = append(t.b, p...)
}
