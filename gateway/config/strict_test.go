package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

type sample struct {
	Name  string          `yaml:"name"`
	Count int             `yaml:"count"`
	On    *bool           `yaml:"on"`
	List  []string        `yaml:"list"`
	Parts map[string]part `yaml:"parts"`
}

type part struct {
	Path string `yaml:"path"`
}

func TestDecodeStrict(t *testing.T) {
	yes := true
	for _, tt := range []struct {
		name, text string
		want       sample
		err        string // of the first fault, after "answers.yaml:"
	}{
		{"empty", "", sample{}, ""},
		{"comment", "# nothing\n", sample{}, ""},
		{"full", "name: a\ncount: 3\non: true\nlist: [x, \"y\"]\nparts:\n  p: {path: /p}\n",
			sample{"a", 3, &yes, []string{"x", "y"}, map[string]part{"p": {"/p"}}}, ""},
		{"unknown", "name: a\nnmae: b\n", sample{}, `2: unknown key "nmae"`},
		{"unknown below", "parts:\n  p: {path: /p, paht: /q}\n", sample{}, `2: unknown key "paht"`},
		{"type", "name: a\ncount: many\n", sample{}, "2: "},
		{"list for text", "name: [a]\n", sample{}, "1: "},
		{"twice", "name: a\nname: b\n", sample{}, "2: "},
		{"syntax", "name: [a\n", sample{}, "1: not valid YAML"},
		{"alias", "name: &x a\nlist: [*x]\n", sample{}, "1: &x is a YAML anchor"},
		{"merge", "parts:\n  p: {path: /p}\n  q:\n    <<: {path: /q}\n", sample{}, "4: << is a YAML merge key"},
		{"tag", "name: !!str 3\n", sample{}, "1: "},
		{"documents", "name: a\n---\nname: b\n", sample{}, "2: a second document"},
		{"tab", "name:\ta\n", sample{}, "1: a tab"},
		{"invisible", "name: a\u202eb\n", sample{}, "1: a character that cannot be seen"},
		{"large", "# " + strings.Repeat("x", MaxSize), sample{}, "1: the file is larger"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got sample
			err := DecodeStrict("answers.yaml", []byte(tt.text), &got)
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, tt.want) {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
				return
			}
			var fault *Error
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want a fault", err)
			}
			if !strings.HasPrefix(fault.Error(), "answers.yaml:"+tt.err) {
				t.Errorf("got %q, want answers.yaml:%s…", fault, tt.err)
			}
		})
	}
}

func FuzzDecodeStrict(f *testing.F) {
	for _, s := range []string{"", "name: a\n", "parts: {p: {path: x}}", "list: [*a]", "a: &b c", "- 1", "\x00", "--- \n...\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got sample
		err := DecodeStrict("f", data, &got)
		var fault *Error
		if err != nil && !errors.As(err, &fault) {
			t.Errorf("an error without a place: %v", err)
		}
	})
}
