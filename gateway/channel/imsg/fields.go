package imsg

import (
	"encoding/json"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

// fields is one object of the tool's, read name by name. A name of the wrong
// type, a name that comes twice or a needed one that is missing sets wrong,
// and the whole row counts as unreadable; names that nobody asks for are left
// out without a word, because that is how a newer tool tells more.
type fields struct {
	m     map[string]json.RawMessage
	wrong bool
}

func readFields(raw json.RawMessage) *fields {
	f := &fields{m: map[string]json.RawMessage{}}
	err := channel.EachMember(raw, func(name string, value json.RawMessage) error {
		f.m[name] = value
		return nil
	})
	f.wrong = err != nil
	return f
}

// need marks the row as unreadable when name is missing.
func (f *fields) need(name string) *fields {
	if _, ok := f.m[name]; !ok {
		f.wrong = true
	}
	return f
}

// read puts a value into dst when it is there and begins with one of first.
func (f *fields) read(name, first string, dst any) {
	v, ok := f.m[name]
	if !ok {
		return
	}
	for i := range len(first) {
		if v[0] == first[i] {
			f.wrong = json.Unmarshal(v, dst) != nil || f.wrong
			return
		}
	}
	f.wrong = true
}

func (f *fields) text(name string) (s string) {
	f.read(name, `"`, &s)
	return s
}

func (f *fields) integer(name string) (n int64) {
	f.read(name, "-0123456789", &n)
	return n
}

func (f *fields) boolean(name string) (b bool) {
	f.read(name, "tf", &b)
	return b
}

func (f *fields) texts(name string) []string {
	var all []*string
	f.read(name, "[", &all)
	var out []string
	for _, s := range all {
		if s == nil {
			f.wrong = true
			continue
		}
		out = append(out, *s)
	}
	return out
}

func (f *fields) rows(name string) (all []json.RawMessage) {
	f.read(name, "[", &all)
	for _, raw := range all {
		if len(raw) == 0 || raw[0] != '{' {
			f.wrong = true
		}
	}
	return all
}
