package journal

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

// anyText draws text of the sort that somebody hostile would send.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringOf(rapid.RuneFrom([]rune("a\"\\/<>&\n\r\t\x00\x1b\x7f\u0085\u00a0\u200b\u202e\u2028\u2066\ufeff\U000e0041é漢😀"))),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(0, 3000), func(n int) string { return strings.Repeat("é", n) }),
	)
}

func anyEvent() *rapid.Generator[Event] {
	return rapid.Custom(func(t *rapid.T) Event {
		e := Event{
			Kind: Kind("k" + anyText().Draw(t, "kind")), ID: "i" + anyText().Draw(t, "id"), PID: rapid.Int32().Draw(t, "pid"),
			Channel: anyText().Draw(t, "channel"), Direction: anyText().Draw(t, "direction"), Verb: anyText().Draw(t, "verb"),
			Command: anyText().Draw(t, "command"), Verdict: anyText().Draw(t, "verdict"), Rule: anyText().Draw(t, "rule"),
			Reason: anyText().Draw(t, "reason"), Digest: anyText().Draw(t, "digest"), Count: rapid.Int().Draw(t, "count"),
			Peers: rapid.SliceOf(anyText()).Draw(t, "peers"), Opinions: rapid.SliceOf(anyText()).Draw(t, "opinions"),
		}
		if rapid.Bool().Draw(t, "uid?") {
			uid := rapid.Uint32().Draw(t, "uid")
			e.ClientUID = &uid
		}
		if rapid.Bool().Draw(t, "exit?") {
			exit := rapid.Int().Draw(t, "exit")
			e.Exit = &exit
		}
		return e
	})
}

// Whatever an event says, its line is one line, prints as what it is, and reads
// back as the event, by our reader and by encoding/json.
func TestLineRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, err := bounded(anyEvent().Draw(t, "event"))
		if err != nil {
			t.Fatal(err)
		}
		e.Seq, e.Time = rapid.Uint64().Draw(t, "seq"), "2026-01-02T03:04:05.000006Z"
		text := string(appendTail(appendHead(nil, e.Seq, e.Time), &e))
		line, ok := strings.CutSuffix(text, "\n")
		if !ok || len(text) > maxLine {
			t.Fatalf("a line of %d bytes: %q", len(text), text)
		}
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Fatalf("%U is written raw: %q", r, line)
			}
		}
		got, err := parseLine([]byte(line))
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("\ngot  %+v\nwant %+v\nline %s", got, e, line)
		}
		var std Event
		if err := json.Unmarshal([]byte(line), &std); err != nil || !reflect.DeepEqual(std, e) {
			t.Fatalf("encoding/json reads %+v, %v", std, err)
		}
	})
}

// A field that is added to Event must be written too.
func TestLineHasEveryField(t *testing.T) {
	e := Event{}
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case v.Type().Field(i).Name == "Time":
			f.SetString("2026-01-02T03:04:05.000006Z")
		case f.Kind() == reflect.String:
			f.SetString("x" + v.Type().Field(i).Name)
		case f.CanInt():
			f.SetInt(int64(i + 1))
		case f.CanUint():
			f.SetUint(uint64(i + 1))
		case f.Kind() == reflect.Slice:
			f.Set(reflect.ValueOf([]string{v.Type().Field(i).Name}))
		case f.Kind() == reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		default:
			t.Fatalf("what is a %s?", f.Type())
		}
	}
	line := appendTail(appendHead(nil, e.Seq, e.Time), &e)
	got, err := parseLine(line[:len(line)-1])
	if err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("\ngot  %+v %v\nwant %+v", got, err, e)
	}
}

func TestBounded(t *testing.T) {
	long := strings.Repeat("x", 100000)
	e, err := bounded(Event{Kind: Kind(long), ID: long, Reason: "é" + strings.Repeat("é", 300), Peers: make([]string, 1000), Opinions: []string{long}})
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{"kind": string(e.Kind), "id": e.ID, "opinion": e.Opinions[0]} {
		if len(s) > 300 || !strings.Contains(s, "…[+") {
			t.Errorf("%s: not cut with a mark: %d bytes", name, len(s))
		}
	}
	if want := strings.Repeat("é", 256) + "…[+90]"; e.Reason != want {
		t.Errorf("reason: %q", e.Reason)
	}
	if n := len(e.Peers); n != maxList+1 || e.Peers[maxList] != "…[+744 more]" {
		t.Errorf("%d peers, the last is %q", n, e.Peers[n-1])
	}
	for _, bad := range []Event{{}, {Kind: KindIntent}, {Kind: KindOutcome}, {Kind: KindInterrupted}, {Kind: KindRead, Time: "yesterday"}} {
		if _, err := bounded(bad); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
	if e, err := bounded(Event{Kind: KindRead, Time: "2026-01-02T03:04:05.123456789+02:00"}); err != nil || e.Time != "2026-01-02T01:04:05.123456Z" {
		t.Errorf("time %q, %v", e.Time, err)
	}
}

func TestParseLineRefuses(t *testing.T) {
	const good = `{"seq":7,"time":"2026-01-02T03:04:05.000006Z","kind":"intent","id":"a1","later":{"x":[1]}}`
	if e, err := parseLine([]byte(good)); err != nil || e.Seq != 7 || e.ID != "a1" {
		t.Fatalf("%+v, %v", e, err)
	}
	for _, bad := range []string{
		"", "{}", "null", good + " ", good + good, good[:len(good)-1], " " + good,
		strings.Replace(good, `:7`, `:07`, 1), strings.Replace(good, `:7`, `:-7`, 1), strings.Replace(good, `:7`, `:99999999999999999999`, 1),
		strings.Replace(good, `05.000006Z`, `05Z`, 1), strings.Replace(good, `T`, ` `, 1),
		strings.Replace(good, `intent`, ``, 1), strings.Replace(good, `intent`, `in`+"\x01"+`tent`, 1), strings.Replace(good, `intent`, "in\xfftent", 1),
		strings.Replace(good, `"later"`, `"seq":8,"later"`, 1), strings.Replace(good, `"later"`, `"id":"b","later"`, 1),
		strings.Replace(good, `"later"`, `"peers":7,"later"`, 1), strings.Replace(good, `"a1"`, `"a1`, 1),
	} {
		if e, err := parseLine([]byte(bad)); err == nil {
			t.Errorf("taken: %s as %+v", bad, e)
		}
	}
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if len(id) != 10 || strings.Trim(id, "0123456789abcdef") != "" || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

// Whatever parses can be written, and then parses as the same.
func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"seq":7,"time":"2026-01-02T03:04:05.000006Z","kind":"intent","id":"a1","client_uid":5,"pid":-1,"peers":["a","\u202e"],"exit":0,"count":3}`))
	f.Add([]byte(`{"seq":0,"time":"0000-00-00T00:00:00.000000Z","kind":"\u0041","id":"\"\\","x":{}}`))
	f.Add([]byte(`{"seq":18446744073709551615,"time":"2026-01-02T03:04:05.000006Z","kind":"k"}`))
	f.Add([]byte("{\"seq\":1,\"time\":\"2026-01-02T03:04:05.000006Z\",\"kind\":\"a\\"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseLine(line)
		if err != nil {
			return
		}
		b, err := bounded(Event{Kind: e.Kind, ID: e.ID, ClientUID: e.ClientUID, PID: e.PID, Channel: e.Channel, Direction: e.Direction,
			Verb: e.Verb, Command: e.Command, Peers: e.Peers, Verdict: e.Verdict, Rule: e.Rule, Reason: e.Reason,
			Opinions: e.Opinions, Exit: e.Exit, Count: e.Count, Digest: e.Digest})
		if err != nil {
			return
		}
		b.Seq, b.Time = e.Seq, e.Time
		again, err := parseLine([]byte(strings.TrimSuffix(string(appendTail(appendHead(nil, e.Seq, e.Time), &b)), "\n")))
		if err != nil || !reflect.DeepEqual(again, b) {
			t.Fatalf("%q: %v\ngot  %+v\nwant %+v", line, err, again, b)
		}
	})
}
