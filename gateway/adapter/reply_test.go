package adapter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

func TestParseLine(t *testing.T) {
	type want struct {
		kind   kind
		id     int64
		result string
		fault  *fault
	}
	for in, w := range map[string]want{
		"":                              {},
		" \t\r":                         {},
		`{"id":7,"result":{"ok":true}}`: {kindReply, 7, `{"ok":true}`, nil},
		`{"jsonrpc":"2.0","id":7,"result":null}` + "\r":                 {kindReply, 7, `null`, nil},
		`{"jsonrpc":"2.0","result":[1],"id":-3,"extra":1}`:              {kindReply, -3, `[1]`, nil},
		`{"id":1,"error":{"code":-32603,"message":"m","data":"d"}}`:     {kindReply, 1, "", &fault{-32603, "m", "d"}},
		`{"id":1,"error":{"code":-32603,"message":"m","data":{"a":1}}}`: {kindReply, 1, "", &fault{-32603, "m", ""}},
		`{"id":null,"error":{"code":-32700,"message":"Parse error"}}`:   {kindStray, 0, "", &fault{-32700, "Parse error", ""}},
		`{"method":"message","params":{"id":3}}`:                        {kind: kindNotice},
	} {
		l, err := parseLine([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		same := l.fault == w.fault || l.fault != nil && w.fault != nil && *l.fault == *w.fault
		if l.kind != w.kind || l.id != w.id || string(l.result) != w.result || !same {
			t.Errorf("%s: got %+v", in, l)
		}
	}
	for _, in := range []string{
		"x", "null", "7", `"a"`, "[]", `[{"id":1,"result":1}]`, "{", `{"id":1,"result":1}}`, `{"id":1,"result":1}{}`,
		`{}`, `{"id":1}`, `{"result":1}`, `{"error":{"code":1,"message":"x"}}`, `{"id":1,"result":1,"error":{"code":1,"message":"x"}}`,
		`{"jsonrpc":"1.0","id":1,"result":1}`, `{"jsonrpc":2,"id":1,"result":1}`,
		`{"id":"1","result":1}`, `{"id":1.0,"result":1}`, `{"id":1e3,"result":1}`, `{"id":99999999999999999999,"result":1}`, `{"id":[1],"result":1}`,
		`{"ID":1,"result":1}`, `{"id":1,"Result":1}`, `{"id":null,"result":1}`,
		`{"id":1,"error":"x"}`, `{"id":1,"error":null}`, `{"id":1,"error":{}}`, `{"id":1,"error":{"code":"1","message":"x"}}`, `{"id":1,"error":{"code":1}}`,
		`{"id":1,"method":"run","params":{}}`, `{"method":5}`,
	} {
		if l, err := parseLine([]byte(in)); !errors.Is(err, errGarbage) {
			t.Errorf("%s: got %+v, %v", in, l, err)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{
		"", "\r", `{"id":7,"result":{"ok":true}}`, `{"id":null,"error":{"code":-32700,"message":"Parse error"}}`,
		`{"id":1,"error":{"code":-32603,"message":"m","data":"d"}}`, `{"method":"message","params":{"id":3}}`,
		`{"id":1,"id":2,"result":1}`, "{\"id\":1,\"result\":\"\xff\"}", `[[[[[[`, `{"id":1,"result":1}x`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLine(b)
		if err != nil {
			if !errors.Is(err, errGarbage) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		switch l.kind {
		case kindBlank:
			if len(bytes.TrimSpace(b)) != 0 {
				t.Errorf("%q counts as blank", b)
			}
		case kindReply, kindStray:
			if !json.Valid(bytes.TrimSpace(b)) {
				t.Errorf("%q is no JSON", b)
			}
			if (l.fault == nil) == (l.result == nil) {
				t.Errorf("%q is neither or both: %+v", b, l)
			}
			if l.result != nil && !json.Valid(l.result) {
				t.Errorf("result %q is no JSON", l.result)
			}
			if l.kind == kindReply && !bytes.Contains(b, []byte(strconv.FormatInt(l.id, 10))) {
				t.Errorf("%q does not name %d", b, l.id)
			}
			if l.fault != nil {
				if text := l.fault.toolError("/home/x").Text; len(text) > maxToolText || !utf8.ValidString(text) {
					t.Errorf("text of %d bytes", len(text))
				}
			}
		}
	})
}

func TestLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		max := int64(rapid.IntRange(1, 300).Draw(t, "max"))
		text := rapid.SliceOf(rapid.StringMatching(`[a-z]{0,400}`)).Draw(t, "lines")
		rest := rapid.StringMatching(`[a-z]{0,50}`).Draw(t, "rest")
		in := rest
		if len(text) > 0 {
			in = strings.Join(text, "\n") + "\n" + rest
		}
		r := &lines{r: bufio.NewReaderSize(strings.NewReader(in), 16), max: max}
		for _, want := range text {
			got, err := r.next()
			if int64(len(want))+1 > max {
				if !errors.Is(err, errTooLong) {
					t.Fatalf("a line of %d bytes passed a bound of %d: %v", len(want), max, err)
				}
				if int64(len(r.buf)) > max {
					t.Fatalf("%d bytes held", len(r.buf))
				}
				return
			}
			if err != nil || string(got) != want {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
		if _, err := r.next(); !errors.Is(err, io.EOF) && !errors.Is(err, errTooLong) {
			t.Fatalf("half a line: %v", err)
		}
	})
}

func TestRequest(t *testing.T) {
	b, err := request(5, &channel.Request{Method: "send", Params: map[string]string{"text": "a\nb\u2028"}})
	if err != nil || bytes.Count(b, []byte("\n")) != 1 || b[len(b)-1] != '\n' {
		t.Fatalf("got %q, %v", b, err)
	}
	var back struct {
		Version string `json:"jsonrpc"`
		ID      int
		Method  string
		Params  map[string]string
	}
	if err := json.Unmarshal(b, &back); err != nil || back.Version != "2.0" || back.ID != 5 || back.Method != "send" || back.Params["text"] != "a\nb\u2028" {
		t.Errorf("got %+v, %v", back, err)
	}
	for _, q := range []channel.Request{{}, {Method: "a\nb"}, {Method: "a", Params: func() {}}} {
		if _, err := request(1, &q); err == nil {
			t.Errorf("%v passed", q.Method)
		}
	}
}

func TestToolErrorText(t *testing.T) {
	const home = "/Users/carapace"
	for in, want := range map[string]string{
		"Chat not found: 5": "Chat not found: 5",
		"cannot open /Users/carapace/Library/Messages/chat.db (code 14)":            "cannot open [path] (code 14)",
		"Attachment not found at /Users/carapace/Library/Application Support/x.png": "Attachment not found at [path]",
		"'/Users/carapace/a b c' is missing\nand \"/Users/carapace/d e\" too":       "'[path]' is missing\nand \"[path]\" too",
		"/Users/carapace":                     "[path]",
		"see /Users/carapace\nand /usr/bin/x": "see [path]\nand /usr/bin/x",
		"a\x1b[31mred\x07":                    "a[31mred",
		"caf\xe9":                             "caf\uFFFD",
	} {
		f := fault{code: 1, message: in}
		if got := f.toolError(home, "").Text; got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := (&fault{1, "Internal error", "disk full"}).toolError(home).Text; got != "Internal error: disk full" {
		t.Errorf("got %q", got)
	}
	if got := (&fault{1, strings.Repeat("é", 10_000), ""}).toolError(home).Text; len(got) > maxToolText || !utf8.ValidString(got) {
		t.Errorf("%d bytes", len(got))
	}
}

func TestHideBelowHidesAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const home = "/home/svc"
		s := rapid.SliceOf(rapid.SampledFrom([]string{home, "/", " ", "x", "'", "\"", "\n", "/home", "svc"})).Draw(t, "s")
		if got := hideBelow(strings.Join(s, ""), home); strings.Contains(got, home) {
			t.Fatalf("%q is left of %q", got, s)
		}
	})
}

func TestBrief(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"one\ntwo\n":                      "two",
		"open /home/x/chat.db: no access": "open [path] no access",
		"file ~/Library/x or C:\\x":       "file [path] or [path]",
		"\x1b[1mbold":                     "[1mbold",
	} {
		if got := brief(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := brief(strings.Repeat("word ", 500)); len(got) > maxLastError {
		t.Errorf("%d bytes", len(got))
	}
}

func TestTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []byte
		var x tail
		for _, p := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 2*maxTail)).Draw(t, "writes") {
			all = append(all, p...)
			x.add(p)
		}
		if want := all[max(0, len(all)-maxTail):]; !bytes.Equal(x.b, want) {
			t.Fatalf("%d bytes kept, want the last %d", len(x.b), len(want))
		}
	})
}
