package wire

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// fault is what is wrong with a text. Syntax faults are -32700 in a line, the
// rest are -32600 there; in parameters all are -32602.
type fault struct {
	syntax bool
	text   string
}

func (f *fault) Error() string { return f.text }

func syntaxf(format string, args ...any) error {
	return &fault{syntax: true, text: fmt.Sprintf(format, args...)}
}

func faultf(format string, args ...any) error {
	return &fault{text: fmt.Sprintf(format, args...)}
}

var errNull error = &fault{text: "null where a value is needed"}

func isSyntax(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && f.syntax
}

// scanner walks one JSON text and refuses everything that encoding/json would
// silently repair. Where a Go type is given, the keys of the text are compared
// with the type's.
type scanner struct {
	b []byte
	i int
	// member, when set, is told of every member of the outermost object.
	member func(key string, raw []byte)
}

// scan checks the whole of b against t; a nil t stands for any shape.
func scan(b []byte, t reflect.Type, member func(string, []byte)) error {
	if !utf8.Valid(b) {
		return syntaxf("not valid UTF-8")
	}
	s := &scanner{b: b, member: member}
	s.space()
	if err := s.value(t, 1); err != nil {
		return err
	}
	s.space()
	if s.i != len(b) {
		return syntaxf("data after the end, at byte %d", s.i)
	}
	return nil
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) unexpected() error {
	if s.i >= len(s.b) {
		return syntaxf("the text ends too early")
	}
	return syntaxf("not JSON at byte %d", s.i)
}

func (s *scanner) value(t reflect.Type, depth int) error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(t, depth)
	case c == '[':
		return s.array(t, depth)
	case c == '"':
		_, err := s.str()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		if err := s.literal("null"); err != nil {
			return err
		}
		if !nullable(t) {
			return errNull
		}
		return nil
	}
	return s.unexpected()
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.b[s.i:], []byte(word)) {
		return s.unexpected()
	}
	s.i += len(word)
	return nil
}

func (s *scanner) digits() bool {
	start := s.i
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.i++
	}
	return s.i > start
}

func (s *scanner) number() error {
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return s.unexpected()
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return s.unexpected()
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.unexpected()
		}
	}
	return nil
}

// str passes a string and returns it with its quotes.
func (s *scanner) str() ([]byte, error) {
	start := s.i
	s.i++
	for {
		if s.i >= len(s.b) {
			return nil, s.unexpected()
		}
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start:s.i], nil
		case c < ' ':
			return nil, s.unexpected()
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		default:
			s.i++
		}
	}
}

func (s *scanner) escape() error {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return nil
	case 'u':
	default:
		return s.unexpected()
	}
	r, ok := s.hex4()
	if !ok {
		return s.unexpected()
	}
	switch {
	case r >= 0xdc00 && r <= 0xdfff:
		return syntaxf("a lone surrogate before byte %d", s.i)
	case r >= 0xd800 && r <= 0xdbff:
		if !bytes.HasPrefix(s.b[s.i:], []byte(`\u`)) {
			return syntaxf("a lone surrogate before byte %d", s.i)
		}
		s.i++
		low, ok := s.hex4()
		if !ok {
			return s.unexpected()
		}
		if low < 0xdc00 || low > 0xdfff {
			return syntaxf("a lone surrogate before byte %d", s.i)
		}
	}
	return nil
}

// hex4 passes the u of an escape and its four digits.
func (s *scanner) hex4() (rune, bool) {
	s.i++
	var r rune
	for range 4 {
		c := s.peek()
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
		s.i++
	}
	return r, true
}

func (s *scanner) array(t reflect.Type, depth int) error {
	if depth > maxDepth {
		return faultf("nested deeper than %d", maxDepth)
	}
	elem := elemOf(t)
	s.i++
	s.space()
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for {
		s.space()
		if err := s.value(elem, depth+1); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
		case ']':
			s.i++
			return nil
		default:
			return s.unexpected()
		}
	}
}

func (s *scanner) object(t reflect.Type, depth int) error {
	if depth > maxDepth {
		return faultf("nested deeper than %d", maxDepth)
	}
	sh := shapeOf(t)
	var keys keySet
	s.i++
	s.space()
	if s.peek() == '}' {
		s.i++
		return sh.missing(&keys)
	}
	for {
		s.space()
		if s.peek() != '"' {
			return s.unexpected()
		}
		raw, err := s.str()
		if err != nil {
			return err
		}
		key := unquote(raw)
		if !keys.add(key) {
			return faultf("member %s stands twice", shown(key))
		}
		of, err := sh.member(key)
		if err != nil {
			return err
		}
		s.space()
		if s.peek() != ':' {
			return s.unexpected()
		}
		s.i++
		s.space()
		start := s.i
		if err := s.value(of, depth+1); err != nil {
			if errors.Is(err, errNull) {
				return faultf("member %s holds null where a value is needed", shown(key))
			}
			return err
		}
		if depth == 1 && s.member != nil {
			s.member(key, s.b[start:s.i])
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
		case '}':
			s.i++
			return sh.missing(&keys)
		default:
			return s.unexpected()
		}
	}
}

// keySet finds duplicate keys: by comparison while there are few, as in every
// honest message, and by a map when somebody sends thousands.
type keySet struct {
	few  []string
	many map[string]struct{}
}

func (k *keySet) has(key string) bool {
	if k.many != nil {
		_, ok := k.many[key]
		return ok
	}
	for _, f := range k.few {
		if f == key {
			return true
		}
	}
	return false
}

func (k *keySet) add(key string) bool {
	if k.has(key) {
		return false
	}
	if k.many != nil {
		k.many[key] = struct{}{}
		return true
	}
	k.few = append(k.few, key)
	if len(k.few) == 16 {
		k.many = make(map[string]struct{}, 64)
		for _, f := range k.few {
			k.many[f] = struct{}{}
		}
	}
	return true
}

// shown makes a word of a client fit for an error message: escaped and short.
func shown(s string) string {
	s = Escape(s)
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return `"` + s + `"`
}
