package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// reader walks a document and collects faults. Its methods report what is
// wrong and return a zero, so that the walk goes on to the next fault.
type reader struct {
	file   string // for errors
	base   string // for rules
	faults []*Error
	warned []string
}

func (r *reader) fail(line int, format string, args ...any) {
	r.faults = append(r.faults, &Error{r.file, max(line, 1), printable(fmt.Sprintf(format, args...))})
}

// printable escapes what a terminal would obey: YAML can write any character
// as an escape, so that one can stand in a key or a pattern.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if unicode.IsPrint(c) {
			b.WriteRune(c)
		} else {
			quoted := strconv.QuoteRuneToASCII(c)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

func (r *reader) warn(n *yaml.Node, format string, args ...any) {
	r.warned = append(r.warned, r.where(n)+": "+printable(fmt.Sprintf(format, args...)))
}

// where is how a rule cites the place of a node.
func (r *reader) where(n *yaml.Node) string { return r.base + ":" + strconv.Itoa(n.Line) }

// document reads bytes into the one mapping that a configuration is.
func (r *reader) document(data []byte) *yaml.Node {
	if !r.characters(data) {
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		r.fail(1, "the file is empty; a configuration starts with version: 1")
		return nil
	case err != nil:
		r.syntax(err)
		return nil
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		r.fail(more.Line, "a second document; a configuration is one document without ---")
		return nil
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		r.fail(1, "the file is empty; a configuration starts with version: 1")
		return nil
	}
	root := doc.Content[0]
	if !r.plain(root) {
		return nil
	}
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		r.fail(1, "the file is empty; a configuration starts with version: 1")
		return nil
	}
	return root
}

// characters refuses what makes a file look different from what it says.
func (r *reader) characters(data []byte) bool {
	if len(data) > MaxSize {
		r.fail(1, "the file is larger than 1 MiB")
		return false
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		for rest := bytes.TrimSuffix(line, []byte("\r")); len(rest) > 0; {
			c, size := utf8.DecodeRune(rest)
			rest = rest[size:]
			switch {
			case c == utf8.RuneError && size == 1:
				r.fail(i+1, "not valid UTF-8")
			case c == '\t':
				r.fail(i+1, "a tab; use spaces")
			case unicode.IsControl(c), unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp):
				r.fail(i+1, "a character that cannot be seen (%U); leave it out", c)
			default:
				continue
			}
			break // one fault a line is enough
		}
	}
	return len(r.faults) == 0
}

var yamlLine = regexp.MustCompile(`^line (\d+): (.*)$`)

// syntax reports an error of the YAML parser, whose texts begin with
// "yaml: line N: ".
func (r *reader) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	r.fail(line, "not valid YAML: %s; quote every text that contains one of : # * & ! %% @ { } [ ]", text)
}

// plain refuses, anywhere below n, the parts of YAML by which one place of a
// file changes the meaning of another.
func (r *reader) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		r.fail(n.Line, "*%s is a YAML alias; put a pattern that starts with * in quotes", n.Value)
	case n.Anchor != "":
		r.fail(n.Line, "&%s is a YAML anchor; write the value out", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		r.fail(n.Line, "%s is a YAML tag; leave it out", n.Tag)
	case n.Tag == "!!merge":
		r.fail(n.Line, "<< is a YAML merge key; write the keys out")
	}
	if n.Kind != yaml.AliasNode {
		for _, c := range n.Content {
			r.plain(c)
		}
	}
	return len(r.faults) == 0
}

// fields reads a mapping: known says what reads the value of each key. It
// returns the keys that were there.
func (r *reader) fields(n *yaml.Node, path string, known map[string]func(*yaml.Node)) map[string]*yaml.Node {
	seen := map[string]*yaml.Node{}
	if n.Kind != yaml.MappingNode {
		r.fail(n.Line, "%s is %s; it must be keys with values: %s", path, describe(n), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		return seen
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
			r.fail(key.Line, "a key of %s is %s; keys are words", path, describe(key))
			continue
		}
		if first, again := seen[key.Value]; again {
			r.fail(key.Line, "%s stands here a second time, first in line %d", join(path, key.Value), first.Line)
			continue
		}
		seen[key.Value] = key
		read, ok := known[key.Value]
		if !ok {
			r.fail(key.Line, "unknown key %q in %s; known are: %s", key.Value, path, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			continue
		}
		// A block begins below its key; what a person looks for is the key.
		if value.Kind != yaml.ScalarNode {
			value.Line = key.Line
		}
		read(value)
	}
	return seen
}

func join(path, key string) string {
	if path == "the configuration" {
		return key
	}
	return path + "." + key
}

// describe says what a node is, in words for an error.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "empty"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	case "!!timestamp":
		return "a date"
	}
	return "a text"
}

// text reads a string, which is not empty.
func (r *reader) text(n *yaml.Node, path string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		cure := "it must be a text"
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			cure = fmt.Sprintf("it must be a text: put it in quotes, \"%s\"", n.Value)
		}
		r.fail(n.Line, "%s is %s; %s", path, describe(n), cure)
		return "", false
	}
	if n.Value == "" {
		r.fail(n.Line, "%s is empty", path)
		return "", false
	}
	return n.Value, true
}

// word reads one of some words and returns its index, -1 after a fault.
func (r *reader) word(n *yaml.Node, path string, words ...string) int {
	i := -1
	if n.Kind == yaml.ScalarNode {
		i = slices.Index(words, n.Value)
	}
	if i < 0 {
		shown := describe(n)
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			shown = strconv.Quote(n.Value)
		}
		r.fail(n.Line, "%s is %s; it must be one of: %s", path, shown, strings.Join(words, ", "))
	}
	return i
}

func (r *reader) boolean(n *yaml.Node, path string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Style != 0 {
		r.fail(n.Line, "%s is %s; it must be true or false", path, describe(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

func (r *reader) integer(n *yaml.Node, path string, low, high int) int {
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
		r.fail(n.Line, "%s is %s; it must be a whole number from %d to %d", path, describe(n), low, high)
		return low
	}
	if i < low || i > high {
		r.fail(n.Line, "%s is %d; it must be from %d to %d", path, i, low, high)
		return low
	}
	return i
}

func (r *reader) duration(n *yaml.Node, path string, low, high time.Duration) time.Duration {
	var d time.Duration
	err := errors.New("no text")
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		d, err = time.ParseDuration(n.Value)
	}
	if err != nil {
		r.fail(n.Line, "%s is not a duration; write a number with its unit: 30s, 5m, 720h", path)
		return low
	}
	if d < low || d > high {
		r.fail(n.Line, "%s is %s; it must be from %s to %s", path, d, low, high)
		return low
	}
	return d
}

var sizeText = regexp.MustCompile(`^([1-9][0-9]{0,9})(KiB|MiB|B)?$`)

func (r *reader) size(n *yaml.Node, path string, low, high int) int {
	var m []string
	if n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || n.Tag == "!!int") {
		m = sizeText.FindStringSubmatch(n.Value)
	}
	if m == nil {
		r.fail(n.Line, "%s is not a size; write bytes, or a number with its unit: 512KiB, 1MiB", path)
		return low
	}
	bytes, _ := strconv.ParseInt(m[1], 10, 64)
	switch m[2] {
	case "KiB":
		bytes <<= 10
	case "MiB":
		bytes <<= 20
	}
	if bytes < int64(low) || bytes > int64(high) {
		r.fail(n.Line, "%s is %d bytes; it must be from %d to %d", path, bytes, low, high)
		return low
	}
	return int(bytes)
}

// items reads a list and calls f for each of its items.
func (r *reader) items(n *yaml.Node, path string, f func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.fail(n.Line, "%s is %s; it must be a list: [first, second], or [] for none", path, describe(n))
		return
	}
	for _, item := range n.Content {
		f(item)
	}
}
