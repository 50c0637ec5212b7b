package wire

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
)

// Decode reads the parameters of a request into the struct that into points
// to, and refuses with an *Error of -32602 whatever does not fit exactly: an
// unknown member, a member in the wrong case, a key that stands twice (at any
// depth), a wrong type, a null, data after the end, more than 32 levels.
//
// Absent parameters are an empty object. A nil into says that the method takes
// no parameters. A null is taken only where the Go type is a pointer, an
// interface or json.RawMessage. A field tagged `wire:"required"` must be
// there; whether the value makes sense is for the caller to judge. Strictness
// ends at a json.RawMessage, whose contents are to be decoded by this function
// again, and at types with an UnmarshalJSON of their own.
func Decode(params json.RawMessage, into any) error {
	text := bytes.TrimSpace(params)
	if len(text) == 0 {
		text = []byte("{}")
	}
	if text[0] != '{' {
		return refusal(CodeInvalidParams, "params must be an object")
	}
	t := reflect.TypeFor[struct{}]()
	if into != nil {
		t = reflect.TypeOf(into)
	}
	if err := scan(text, t, nil); err != nil {
		return refusal(CodeInvalidParams, "params: %s", err)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Field != "" {
			return refusal(CodeInvalidParams, "params: member %s cannot be a %s", shown(e.Field), e.Value)
		}
		return refusal(CodeInvalidParams, "params: a value does not fit")
	}
	return nil
}

// shape is what the keys of an object are compared with. A nil *shape accepts
// every key.
type shape struct {
	fields   map[string]reflect.Type
	elem     reflect.Type // of a map
	isMap    bool
	required []string
}

var (
	typeRaw  = reflect.TypeFor[json.RawMessage]()
	typeJSON = reflect.TypeFor[json.Unmarshaler]()
	typeText = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// opaque reports whether the keys below t are not ours to compare.
func opaque(t reflect.Type) bool {
	return t == nil || t == typeRaw || t.Kind() == reflect.Interface ||
		t.Implements(typeJSON) || reflect.PointerTo(t).Implements(typeJSON) ||
		t.Implements(typeText) || reflect.PointerTo(t).Implements(typeText)
}

func nullable(t reflect.Type) bool {
	if t == nil || t == typeRaw {
		return true
	}
	return t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface
}

func deref(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer && !opaque(t) {
		t = t.Elem()
	}
	if opaque(t) {
		return nil
	}
	return t
}

func elemOf(t reflect.Type) reflect.Type {
	t = deref(t)
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		return t.Elem()
	}
	return nil
}

func shapeOf(t reflect.Type) *shape {
	t = deref(t)
	if t == nil {
		return nil
	}
	switch t.Kind() {
	case reflect.Map:
		return &shape{isMap: true, elem: t.Elem()}
	case reflect.Struct:
		sh := &shape{fields: make(map[string]reflect.Type, t.NumField())}
		sh.collect(t)
		return sh
	}
	return nil // a wrong type, which json.Unmarshal names
}

func (sh *shape) collect(t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		if f.Anonymous && name == "" {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				sh.collect(inner)
				continue
			}
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		sh.fields[name] = f.Type
		if f.Tag.Get("wire") == "required" {
			sh.required = append(sh.required, name)
		}
	}
}

// member returns the type of the member called key.
func (sh *shape) member(key string) (reflect.Type, error) {
	switch {
	case sh == nil:
		return nil, nil
	case sh.isMap:
		return sh.elem, nil
	}
	if t, ok := sh.fields[key]; ok {
		return t, nil
	}
	for name := range sh.fields {
		if strings.EqualFold(name, key) {
			return nil, faultf("member %s is unknown; it is spelled %s", shown(key), shown(name))
		}
	}
	return nil, faultf("member %s is unknown", shown(key))
}

func (sh *shape) missing(have *keySet) error {
	if sh == nil {
		return nil
	}
	for _, name := range sh.required {
		if !have.has(name) {
			return faultf("member %s is missing", shown(name))
		}
	}
	return nil
}
