package wire

import (
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// What stands here reads and writes JSON without encoding/json, whose first
// use costs a short-lived program a tenth of its start. It is for the few
// messages of a one-shot client.

// Members calls fn for every member of a JSON object, in order, with the key
// read and the value as it stands. It refuses what Decode refuses of any
// object.
func Members(object []byte, fn func(key string, value []byte)) error {
	return scan(object, reflect.TypeFor[map[string]any](), fn)
}

// Text returns the string that value is; false if it is none.
func Text(value []byte) (string, bool) {
	s := scanner{b: value}
	if s.peek() != '"' {
		return "", false
	}
	raw, err := s.str()
	if err != nil || len(raw) != len(value) {
		return "", false
	}
	return unquote(raw), true
}

// AppendText appends s as a JSON string. Invalid UTF-8 becomes U+FFFD, as with
// encoding/json.
func AppendText(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c == '\n':
				dst = append(dst, '\\', 'n')
			case c < ' ' || c == 0x7f:
				dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			default:
				dst = append(dst, c)
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		dst = utf8.AppendRune(dst, r)
	}
	return append(dst, '"')
}

// unquote reads a string that the scanner has passed.
func unquote(raw []byte) string {
	in := raw[1 : len(raw)-1]
	var b strings.Builder
	for i := 0; i < len(in); i++ {
		if in[i] != '\\' {
			start := i
			for i < len(in) && in[i] != '\\' {
				i++
			}
			b.Write(in[start:i])
			i--
			continue
		}
		i++
		switch c := in[i]; c {
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			s := scanner{b: in, i: i}
			r, _ := s.hex4()
			if utf16.IsSurrogate(r) {
				s.i++
				low, _ := s.hex4()
				r = utf16.DecodeRune(r, low)
			}
			b.WriteRune(r)
			i = s.i - 1
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// integer returns the whole number that value is; false if it is none, or one
// that does not fit.
func integer(value []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil
}
