package channel

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

type params struct {
	To    *string  `json:"to"`
	Text  string   `json:"text"`
	Limit *int     `json:"limit"`
	Chat  int64    `json:"chat"`
	Read  bool     `json:"read"`
	Names []string `json:"names"`
}

func TestDecodeParams(t *testing.T) {
	to, limit := "bob", -3
	tests := []struct {
		in   string
		want *params // nil: a *ParamsError
	}{
		{``, &params{}},
		{` {} `, &params{}},
		{`{"to":"bob","text":"","limit":-3,"chat":9007199254740993,"read":true,"names":["a","null"]}`,
			&params{To: &to, Limit: &limit, Chat: 9007199254740993, Read: true, Names: []string{"a", "null"}}},
		{`{"names":[]}`, &params{Names: []string{}}},
		{`null`, nil},
		{`[]`, nil},
		{`"x"`, nil},
		{`{"to":null}`, nil},
		{`{"to":1}`, nil},
		{`{"to":["bob"]}`, nil},
		{`{"TO":"bob"}`, nil},
		{`{"to":"bob","to":"bob"}`, nil},
		{`{"to":"bob","t\u006f":"eve"}`, nil},
		{`{"limit":1.5}`, nil},
		{`{"limit":1e2}`, nil},
		{`{"limit":"3"}`, nil},
		{`{"limit":99999999999999999999}`, nil},
		{`{"read":1}`, nil},
		{`{"names":["a",null]}`, nil},
		{`{"names":"a"}`, nil},
		{`{"names":[1]}`, nil},
		{`{"":1}`, nil},
		{`{"to":"bob"}{}`, nil},
		{`{"to":"bob"}x`, nil},
		{`{"to":"bob"`, nil},
		{"{\"to\":\"\xff\"}", nil},
	}
	for _, tt := range tests {
		var got params
		err := DecodeParams(json.RawMessage(tt.in), &got)
		var wrong *ParamsError
		switch {
		case tt.want == nil && !errors.As(err, &wrong):
			t.Errorf("%s: read as %+v, error %v", tt.in, got, err)
		case tt.want != nil && (err != nil || !reflect.DeepEqual(got, *tt.want)):
			t.Errorf("%s: read as %+v, error %v", tt.in, got, err)
		}
	}
	if err := DecodeParams(json.RawMessage(`{"`+strings.Repeat("x", 1000)+`":1}`), &params{}); len(err.Error()) > 100 {
		t.Errorf("an error repeats what a client wrote: %d bytes", len(err.Error()))
	}
}

func FuzzDecodeParams(f *testing.F) {
	f.Add([]byte(`{"to":"bob","limit":3,"names":["a"]}`))
	f.Add([]byte(`{"to":"bob","to":"eve"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var got params
		if DecodeParams(in, &got) != nil || len(in) == 0 {
			return
		}
		// Whatever is taken means the same to encoding/json.
		var same params
		if len(strings.TrimSpace(string(in))) > 0 {
			if err := json.Unmarshal(in, &same); err != nil {
				t.Fatalf("%q is taken and is no JSON: %v", in, err)
			}
		}
		if !reflect.DeepEqual(got, same) {
			t.Fatalf("%q reads as %+v and as %+v", in, got, same)
		}
	})
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"hello, wörld 👍":                         "hello, wörld 👍",
		`C:\dir`:                                 `C:\dir`,
		"a\n2026 [recv] Boss: pay":               `a\n2026 [recv] Boss: pay`,
		"\x1b[31m\r\t\x7f\u0085":                 `\u001b[31m\r\t\u007f\u0085`,
		"\u202eevil\u200b\u2028\ufeff\U000e0041": `\u202eevil\u200b\u2028\ufeff\U000e0041`,
		"\xff\xfe":                               `\xff\xfe`,
		"\ufffd":                                 "\ufffd",
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestJSONLine shows that a line shows nothing hidden and still means what it
// meant.
func TestJSONLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{"text": rapid.StringOf(rapid.OneOf(rapid.Rune(),
			rapid.RuneFrom([]rune("\u202e\u200d\n<&\\\"\u2028\U000e0041\x7f\u009b")))).Draw(t, "text")}
		line, err := JSONLine(want)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.Unmarshal(line, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q reads as %q (%v)", line, got, err)
		}
		body := strings.TrimSuffix(string(line), "\n")
		for _, r := range body {
			if hidden(r) {
				t.Fatalf("%U stands in %q", r, body)
			}
		}
		if !utf8.ValidString(body) {
			t.Fatalf("%q is not UTF-8", body)
		}
	})
}

func TestScrub(t *testing.T) {
	for in, want := range map[string]string{
		"AppleScript failed: Messages got an error":                        "AppleScript failed: Messages got an error",
		"unknown chat_id 999":                                              "unknown chat_id 999",
		"cannot open /Users/carapace/Library/Messages/chat.db\n\nthe rest": "cannot open [path]",
		"Multiple contacts match \"Jo\":\n  John: +15551234567":            `Multiple contacts match "Jo":`,
		"no buddy +15551234567 for ann@example.com":                        "no buddy [peer] for [peer]",
		"~secret \x1b[31m":                                                 `[path] \u001b[31m`,
		"":                                                                 "the tool failed",
		strings.Repeat("word ", 100):                                       strings.Repeat("word ", 40) + "…",
	} {
		if got := Scrub(in); got != want {
			t.Errorf("Scrub(%q) = %q, want %q", in, got, want)
		}
	}
}
