package wire

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

type sendParams struct {
	Channel string `json:"channel" wire:"required"`
	To      string `json:"to" wire:"required"`
	Text    string `json:"text,omitempty"`
	Limit   int    `json:"limit,omitempty"`
	Loud    *bool  `json:"loud,omitempty"`
	Nested  struct {
		Argv []string `json:"argv"`
	} `json:"nested"`
	List []item          `json:"list"`
	Raw  json.RawMessage `json:"raw,omitempty"`
	Any  any             `json:"any,omitempty"`
	Map  map[string]item `json:"map,omitempty"`
	Skip string          `json:"-"`
	base
}

type item struct {
	N int `json:"n"`
}

type base struct {
	Common string `json:"common"`
}

func TestDecode(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(`,"k`)
			b.WriteString(strings.Repeat("x", i%7))
			b.WriteString(string(rune('A'+i%26)) + string(rune('a'+i/26%26)))
			b.WriteString(`":1`)
		}
		return b.String()[1:]
	}
	const need = `"channel":"c","to":"t"`
	for _, test := range []struct {
		name, in string
		want     string // part of the message; empty: accepted
	}{
		{"plain", `{` + need + `,"text":"hi","limit":3,"loud":true,"nested":{"argv":["a"]},"list":[{"n":1}],"common":"x"}`, ""},
		{"null for a pointer", `{` + need + `,"loud":null}`, ""},
		{"null for raw", `{` + need + `,"raw":null}`, ""},
		{"null for any", `{` + need + `,"any":[null]}`, ""},
		{"anything below any", `{` + need + `,"any":{"A":{"b":1}}}`, ""},
		{"map", `{` + need + `,"map":{"A":{"n":1},"a":{"n":2}}}`, ""},
		{"spaces", " {\t\"channel\" :\r\n \"c\" , \"to\":\"t\" } ", ""},
		{"empty", ``, `member "channel" is missing`},
		{"missing", `{"channel":"c"}`, `member "to" is missing`},
		{"unknown", `{` + need + `,"zz":1}`, `member "zz" is unknown`},
		{"skipped", `{` + need + `,"Skip":"x"}`, `is unknown`},
		{"embedded by name", `{` + need + `,"base":{"common":"x"}}`, `member "base" is unknown`},
		{"wrong case", `{` + need + `,"Text":"x"}`, `member "Text" is unknown; it is spelled "text"`},
		{"wrong case, folded", `{` + need + `,"li\u017ft":[]}`, `is unknown; it is spelled "list"`},
		{"unknown below", `{` + need + `,"nested":{"Argv":[]}}`, `it is spelled "argv"`},
		{"unknown in a list", `{` + need + `,"list":[{"n":1},{"m":1}]}`, `member "m" is unknown`},
		{"unknown in a map", `{` + need + `,"map":{"x":{"m":1}}}`, `member "m" is unknown`},
		{"twice", `{` + need + `,"text":"a","text":"b"}`, `member "text" stands twice`},
		{"twice by escape", `{` + need + `,"text":"a","\u0074ext":"b"}`, `stands twice`},
		{"twice below any", `{` + need + `,"any":{"a":{"b":1,"b":1}}}`, `member "b" stands twice`},
		{"twice below raw", `{` + need + `,"raw":[{"b":1,"b":1}]}`, `stands twice`},
		{"twice in a map", `{` + need + `,"map":{"x":{"n":1},"x":{"n":1}}}`, `stands twice`},
		{"twice among many", `{` + need + `,"any":{` + many(300) + `,"kA` + `a":1}}`, `stands twice`},
		{"null", `{"channel":null,"to":"t"}`, `member "channel" holds null`},
		{"null in a list", `{` + need + `,"nested":{"argv":["a",null]}}`, `null`},
		{"null list", `{` + need + `,"nested":{"argv":null}}`, `null`},
		{"null struct", `{` + need + `,"nested":null}`, `null`},
		{"wrong type", `{` + need + `,"limit":"3"}`, `member "limit" cannot be a string`},
		{"fraction", `{` + need + `,"limit":1.5}`, `member "limit"`},
		{"exponent", `{` + need + `,"limit":1e1}`, `member "limit"`},
		{"too large", `{` + need + `,"limit":99999999999999999999}`, `member "limit"`},
		{"object for a string", `{"channel":{},"to":"t"}`, `member "channel" cannot be a object`},
		{"object for a list", `{` + need + `,"list":{"n":1}}`, `member "list"`},
		{"not an object", `[1]`, `must be an object`},
		{"null params", `null`, `must be an object`},
		{"trailing", `{` + need + `} {}`, `data after the end`},
		{"trailing comma", `{` + need + `,}`, `not JSON`},
		{"depth 32", `{` + need + `,"any":` + deep(31) + `}`, ``},
		{"depth 33", `{` + need + `,"any":` + deep(32) + `}`, `nested deeper than 32`},
		{"UTF-8", "{" + need + ",\"text\":\"\xff\"}", `not valid UTF-8`},
		{"lone high surrogate", `{` + need + `,"text":"\ud800"}`, `a lone surrogate`},
		{"lone high surrogate before text", `{` + need + `,"text":"\ud800x"}`, `a lone surrogate`},
		{"two high surrogates", `{` + need + `,"text":"\ud800\ud800"}`, `a lone surrogate`},
		{"lone low surrogate", `{` + need + `,"text":"\udc00"}`, `a lone surrogate`},
		{"lone surrogate in a key", `{` + need + `,"any":{"\ud800":1}}`, `a lone surrogate`},
		{"surrogates", `{` + need + `,"text":"\ud83d\ude00"}`, ``},
		{"raw control", "{" + need + ",\"text\":\"a\tb\"}", `not JSON`},
		{"bad escape", `{` + need + `,"text":"\x41"}`, `not JSON`},
		{"short escape", `{` + need + `,"text":"\u00"}`, `not JSON`},
		{"leading zero", `{` + need + `,"limit":01}`, `not JSON`},
		{"plus", `{` + need + `,"limit":+1}`, `not JSON`},
		{"bare minus", `{` + need + `,"limit":-}`, `not JSON`},
		{"bare dot", `{` + need + `,"any":1.}`, `not JSON`},
		{"bare e", `{` + need + `,"any":1e}`, `not JSON`},
		{"NaN", `{` + need + `,"any":NaN}`, `not JSON`},
		{"truth", `{` + need + `,"any":tru}`, `not JSON`},
		{"no colon", `{"channel" "c"}`, `not JSON`},
		{"key without quotes", `{channel:"c"}`, `not JSON`},
		{"cut", `{"channel":"c`, `too early`},
		{"an invisible member", `{` + need + `,"te\u202ext":1}`, `member "te\u202ext" is unknown`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var p sendParams
			err := Decode(json.RawMessage(test.in), &p)
			if test.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Code != CodeInvalidParams || !strings.Contains(e.Message, test.want) {
				t.Fatalf("got %v, want -32602 with %q", err, test.want)
			}
		})
	}
}

func TestDecodeNoParams(t *testing.T) {
	for _, in := range []string{"", "{}", " { } "} {
		if err := Decode(json.RawMessage(in), nil); err != nil {
			t.Errorf("%q: %v", in, err)
		}
	}
	if err := Decode(json.RawMessage(`{"a":1}`), nil); err == nil {
		t.Error("a member was taken where there is none")
	}
}

// Whatever is encoded is decoded to the same, and Decode never accepts what
// encoding/json refuses.
func TestDecodeEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return utf8.ValidRune(r) }))
		want := sendParams{Channel: text.Draw(t, "channel"), To: text.Draw(t, "to"), Limit: rapid.Int().Draw(t, "limit"), List: []item{}}
		want.Nested.Argv = rapid.SliceOf(text).Draw(t, "argv")
		if want.Nested.Argv == nil {
			want.Nested.Argv = []string{}
		}
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			want.List = append(want.List, item{rapid.Int().Draw(t, "n")})
		}
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got sendParams
		if err := Decode(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\ngot  %+v\nwant %+v", b, got, want)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"channel":"c","to":"t"}`, `{"a":[1,2.5e-3,null,true,"\ud83d\ude00"]}`, `{"a":1,"a":1}`,
		`[[[[[[[[`, `{"`, `"\u`, "\xff", `{"channel":"c","to":"t","list":[{"n":1}],"any":{}}`, ` { } `, `-`, `{"":{"":0}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := scan(b, nil, nil); err == nil && !json.Valid(b) {
			t.Fatalf("%q is not JSON", b)
		}
		var p sendParams
		if err := Decode(b, &p); err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeInvalidParams || Escape(e.Message) != e.Message {
				t.Fatalf("%q: %v", b, err)
			}
			return
		}
		// What was accepted means the same to every reader.
		var lenient sendParams
		if len(b) > 0 {
			if err := json.Unmarshal(b, &lenient); err != nil || !reflect.DeepEqual(p, lenient) {
				t.Fatalf("%q: %+v, %+v, %v", b, p, lenient, err)
			}
		}
	})
}
