package channel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes s, words of somebody else, safe to stand in one line of a
// terminal: line ends, control characters, bidirectional and zero-width
// characters and bytes that are no UTF-8 are shown as escapes. Without it a
// message with a line end in it forges a line of another sender.
func Escape(s string) string {
	clean := true
	for _, r := range s {
		if r == utf8.RuneError || hidden(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case hidden(r) && r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		case hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

// JSONLine writes v as one line of JSON that a terminal can be shown: what
// Escape would show is escaped in the way of JSON, so that the line still
// reads as the same value.
func JSONLine(v any) ([]byte, error) {
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false) // users of the tools compare text, and <b> is text
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	line := bytes.TrimSuffix(raw.Bytes(), []byte("\n"))
	var b bytes.Buffer
	for len(line) > 0 {
		// Only inside strings does JSON hold such characters, so a plain walk
		// meets none of them elsewhere.
		r, size := utf8.DecodeRune(line)
		switch {
		case hidden(r) && r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		case hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.Write(line[:size])
		}
		line = line[size:]
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// hidden reports whether a character changes what is seen without being seen.
func hidden(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0: // blanks that are letters or marks
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp)
}
