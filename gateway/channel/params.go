package channel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// ParamsError says what is wrong with the parameters of a request of ours. The
// daemon answers it with -32602.
type ParamsError struct {
	What string // `unknown parameter "colour"`; the client's own words at most
}

func (e *ParamsError) Error() string { return e.What }

// DecodeParams reads raw, one JSON object, into the struct that dst points to.
// The names are those of the json tags, and they are compared as they are:
// encoding/json alone would take "TO" for "to", keep the last of two equal
// names and read null as nothing, and two readers that disagree about a
// message are a hole. Fields may be string, int, int64, bool, []string or a
// pointer to one of them; a pointer stays nil when the parameter is absent.
// No raw at all is an empty object. Every error is a *ParamsError.
func DecodeParams(raw json.RawMessage, dst any) error {
	v := reflect.ValueOf(dst).Elem()
	fields := make(map[string]reflect.Value, v.NumField())
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = v.Field(i)
	}
	return EachMember(raw, func(name string, value json.RawMessage) error {
		field, ok := fields[name]
		if !ok {
			return &ParamsError{What: fmt.Sprintf("unknown parameter %q", short(name))}
		}
		if field.Kind() == reflect.Pointer {
			field.Set(reflect.New(field.Type().Elem()))
			field = field.Elem()
		}
		if value[0] != firstByte(field.Kind(), value) || json.Unmarshal(value, field.Addr().Interface()) != nil {
			return &ParamsError{What: fmt.Sprintf("parameter %q has the wrong type", name)}
		}
		if list, ok := field.Interface().([]string); ok && bytes.Contains(value, []byte("null")) && hasNull(value, len(list)) {
			return &ParamsError{What: fmt.Sprintf("parameter %q has the wrong type", name)}
		}
		return nil
	})
}

// EachMember calls visit for every member of raw, one JSON object, in order,
// and stops at the first error. A name that comes twice, anything after the
// object and bytes that are no UTF-8 are errors of the type *ParamsError. No
// raw at all is an empty object.
func EachMember(raw json.RawMessage, visit func(name string, value json.RawMessage) error) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	if !utf8.Valid(raw) {
		return &ParamsError{What: "parameters are not UTF-8"}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return &ParamsError{What: "parameters are not an object"}
	}
	seen := make(map[string]bool)
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return &ParamsError{What: "parameters are not an object"}
		}
		if seen[name] {
			return &ParamsError{What: fmt.Sprintf("parameter %q comes twice", short(name))}
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil || len(value) == 0 {
			return &ParamsError{What: fmt.Sprintf("parameter %q is not JSON", short(name))}
		}
		if err := visit(name, value); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return &ParamsError{What: "parameters are not an object"}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &ParamsError{What: "there is something after the parameters"}
	}
	return nil
}

// firstByte returns how a value of kind begins in JSON; a kind that no
// parameter can have begins with nothing.
func firstByte(kind reflect.Kind, value json.RawMessage) byte {
	switch kind {
	case reflect.String:
		return '"'
	case reflect.Slice:
		return '['
	case reflect.Bool:
		if value[0] == 't' || value[0] == 'f' {
			return value[0]
		}
	case reflect.Int, reflect.Int64:
		if c := value[0]; c == '-' || '0' <= c && c <= '9' {
			return c
		}
	}
	return 0
}

// hasNull reports whether a list of strings was written with a null in it,
// which encoding/json reads as the empty string.
func hasNull(value json.RawMessage, n int) bool {
	var list []*string
	if json.Unmarshal(value, &list) != nil || len(list) != n {
		return true
	}
	for _, s := range list {
		if s == nil {
			return true
		}
	}
	return false
}

// short keeps a client's word in an error message from being a message of its
// own.
func short(s string) string {
	const most = 32
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
