package wire

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// The short ways of reading and writing JSON agree with encoding/json.
func TestTextAgainstJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "s")
		var got string
		if err := json.Unmarshal(AppendText(nil, want), &got); err != nil || got != want {
			t.Fatalf("written %q, read %q: %v", want, got, err)
		}
		raw, _ := json.Marshal(want)
		if got, ok := Text(raw); !ok || got != want {
			t.Fatalf("%s read as %q", raw, got)
		}
	})
}

func TestText(t *testing.T) {
	for raw, want := range map[string]string{
		`""`:                         "",
		`"a\"\\\/\b\f\n\r\t"`:        "a\"\\/\b\f\n\r\t",
		`"\u0041\u00e9\ud83d\ude00"`: "Aé😀",
		`"é😀\u0000x"`:                "é😀\x00x",
	} {
		if got, ok := Text([]byte(raw)); !ok || got != want {
			t.Errorf("%s is %q, want %q", raw, got, want)
		}
	}
	for _, raw := range []string{``, `"`, `1`, `null`, `"a`, `"a"b`, `"\u00"`, `"\ud800"`, `"\`} {
		if got, ok := Text([]byte(raw)); ok {
			t.Errorf("%s is %q", raw, got)
		}
	}
	if got := string(AppendText(nil, "a\xffb")); got != `"a`+"\ufffd"+`b"` {
		t.Errorf("invalid UTF-8 is written %q", got)
	}
}

func TestMembers(t *testing.T) {
	got := map[string]string{}
	err := Members([]byte(` {"a": 1, "b\n":{"c":[1, 2]},"d":null } `), func(k string, v []byte) { got[k] = string(v) })
	if err != nil || len(got) != 3 || got["a"] != "1" || got["b\n"] != `{"c":[1, 2]}` || got["d"] != "null" {
		t.Fatalf("%v, %v", got, err)
	}
	if err := Members([]byte(`{"a":1,"a":2}`), nil); err == nil {
		t.Error("a key stands twice")
	}
}

func TestParseAnswer(t *testing.T) {
	a, err := parseAnswer([]byte(`{"jsonrpc":"2.0","id":7,"error":{"code":-32006,"message":"held\nfor review","data":{"id":"7f3c9a","hint":"ask","retry_after_ms":1500,"not_started":true,"later":1},"later":2},"later":3}`))
	want := Error{CodeHeld, "held\nfor review", &ErrorData{"7f3c9a", "ask", 1500, true}}
	if err != nil || string(a.id) != "7" || a.problem == nil || a.problem.Data == nil || *a.problem.Data != *want.Data ||
		a.problem.Code != want.Code || a.problem.Message != want.Message {
		t.Fatalf("%+v, %v", a, err)
	}
	// The server writes its errors with encoding/json: both must agree.
	b, _ := json.Marshal(want)
	if e := parseProblem(b); e.Code != want.Code || e.Message != want.Message || *e.Data != *want.Data {
		t.Fatalf("%s is read as %+v", b, e)
	}
}
