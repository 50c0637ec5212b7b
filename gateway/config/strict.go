package config

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"strconv"

	"gopkg.in/yaml.v3"
)

var unknownField = regexp.MustCompile(`^field (.+) not found in type .+$`)

// DecodeStrict reads one YAML document into a struct with yaml tags, with the
// strictness of a configuration: unknown and repeated keys, wrong types,
// several documents, aliases, anchors, tags, tabs and invisible characters are
// refused, and so is more than MaxSize. name is for errors, of which there is
// one *Error for each fault, in the order of their lines. An empty document
// leaves into as it is.
//
// It exists because this package is the only one that reads YAML; the
// installer's answers file is read with it.
func DecodeStrict(name string, data []byte, into any) error {
	r := &reader{file: name, base: filepath.Base(name)}
	if !r.characters(data) {
		return joined(r.faults)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		r.decoding(err)
		return joined(r.faults)
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		r.fail(more.Line, "a second document; one document without --- is read")
		return joined(r.faults)
	case !errors.Is(err, io.EOF):
		r.decoding(err)
		return joined(r.faults)
	}
	if !r.plain(&doc) {
		return joined(r.faults)
	}
	dec = yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		r.decoding(err)
	}
	return joined(r.faults)
}

// decoding reports what the YAML decoder says: one text, or one for each fault.
func (r *reader) decoding(err error) {
	var types *yaml.TypeError
	if !errors.As(err, &types) {
		r.syntax(err)
		return
	}
	for _, text := range types.Errors {
		line := 1
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = m[2]
		}
		if m := unknownField.FindStringSubmatch(text); m != nil {
			text = "unknown key " + strconv.Quote(m[1])
		}
		r.fail(line, "%s", text)
	}
}
