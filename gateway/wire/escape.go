package wire

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Escape returns s fit for a terminal, a log or an export (interface §1):
// control characters, line ends, bidirectional and zero-width characters and
// other invisible ones, unassigned code points and invalid UTF-8 are replaced
// by a visible form such as \n, \x1b, \u202e. Everything a person can see
// stays as it is, so that Escape changes nothing the second time.
//
// The result is for people. It is not reversible: a backslash stays single.
func Escape(s string) string {
	i := 0
	for i < len(s) && s[i] >= ' ' && s[i] < 0x7f {
		i++
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	b.WriteString(s[:i])
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			b.WriteString(`\x`)
			hex2(&b, s[i])
		case visible(r):
			b.WriteString(s[i : i+n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			b.WriteString(`\x`)
			hex2(&b, byte(r))
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}

// EscapeJSON does the same for a JSON text, which stays one: what cannot be
// seen becomes \u202e and the like. Nothing of the kind can stand outside a
// string but the spaces, tabs and line ends between tokens, which are kept.
func EscapeJSON(text []byte) []byte {
	clean := true
	for _, c := range text {
		if c >= 0x7f || c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			clean = false
			break
		}
	}
	if clean {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	unit := func(r rune) {
		out = append(out, '\\', 'u')
		out = append(out, strconv.FormatInt(0x10000|int64(r), 16)[1:]...)
	}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r == '\n', r == '\t', r == '\r', visible(r):
			out = utf8.AppendRune(out, r) // invalid UTF-8 too: as U+FFFD
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			unit(high)
			unit(low)
		default:
			unit(r)
		}
		i += n
	}
	return out
}

func hex2(b *strings.Builder, c byte) {
	const digits = "0123456789abcdef"
	b.WriteByte(digits[c>>4])
	b.WriteByte(digits[c&15])
}

// visible reports whether a person sees r, or sees that there is a space.
func visible(r rune) bool {
	switch {
	case r == 0x034f, // combining grapheme joiner
		r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0, // Hangul fillers: letters that show nothing
		r == 0x17b4, r == 0x17b5, // Khmer inherent vowels
		r == 0x2800,                                                                          // braille blank
		r >= 0x180b && r <= 0x180f, r >= 0xfe00 && r <= 0xfe0d, r >= 0xe0100 && r <= 0xe01ef: // variation selectors
		return false
	case r == 0xfe0e || r == 0xfe0f: // text or emoji style: part of how ordinary emoji are written
		return true
	}
	return strconv.IsPrint(r) || unicode.Is(unicode.Zs, r)
}
