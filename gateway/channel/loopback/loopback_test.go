package loopback

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/channel/channeltest"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

func someone(t testing.TB, text string) policy.Peer {
	t.Helper()
	p, err := policy.ParsePeer("loopback", text, "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func drawPeer(t *rapid.T) policy.Peer {
	p, err := policy.ParsePeer("loopback", rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,10}`).Draw(t, "peer"), "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func drawOperation(t *rapid.T) policy.Operation {
	limit := rapid.IntRange(1, channel.MaxRows)
	switch rapid.IntRange(0, 2).Draw(t, "verb") {
	case 0:
		text := rapid.StringN(1, 40, 400).Draw(t, "text")
		return policy.Operation{Channel: "loopback", Verb: policy.VerbSend, Command: "send", Default: true,
			To: []policy.Peer{drawPeer(t)}, Body: []policy.Text{policy.Text(text)}}
	case 1:
		op := policy.Operation{Channel: "loopback", Direction: policy.Inbound, Verb: policy.VerbRead, Command: "history", Default: true,
			Detail: Query{Limit: limit.Draw(t, "limit")}}
		if rapid.Bool().Draw(t, "of one") {
			op.Chat = drawPeer(t)
		}
		return op
	}
	return policy.Operation{Channel: "loopback", Direction: policy.Inbound, Verb: policy.VerbList, Command: "chats", Default: true,
		Detail: Query{Limit: limit.Draw(t, "limit")}}
}

// say puts a request of the messenger's into a client's words.
func say(c channel.Command, _ []policy.File) (channel.Call, error) {
	raw, err := json.Marshal(c.Request.Params)
	if err != nil {
		return channel.Call{}, err
	}
	var p map[string]any
	if err := json.Unmarshal(raw, &p); err != nil {
		return channel.Call{}, err
	}
	call := channel.Call{}
	switch c.Request.Method {
	case "send":
		call.Method = "send"
	case "history":
		call.Method = "get_history"
		p["limit"] = (p["limit"].(float64) - 50) / 2
	case "chats":
		call.Method = "list_chats"
		p["limit"] = p["limit"].(float64) - 500
	default:
		return call, fmt.Errorf("unknown method %q", c.Request.Method)
	}
	call.Params, err = json.Marshal(p)
	return call, err
}

func drawAnswer(t *rapid.T) (policy.Operation, []byte) {
	op := drawOperation(t)
	peer := rapid.SampledFrom([]string{"echo", "bob", "../x", "", "Bob", "\u202ebob"})
	time := rapid.SampledFrom([]string{"2026-11-22T10:00:00.000Z", "2026-11-22T12:00:00+02:00", "yesterday", ""})
	n := rapid.IntRange(0, 4).Draw(t, "rows")
	var rows []map[string]any
	for range n {
		rows = append(rows, map[string]any{
			"id": rapid.SampledFrom([]any{"0123456789abcdef", "", 7}).Draw(t, "id"), "channel": "loopback",
			"direction": rapid.SampledFrom([]string{"in", "out", "sideways"}).Draw(t, "direction"),
			"peer":      peer.Draw(t, "peer"), "from": peer.Draw(t, "from"),
			"text": channeltest.Canary + rapid.StringMatching(`[a-z]{8}`).Draw(t, "text"),
			"time": time.Draw(t, "time"), "last_message_at": time.Draw(t, "last"),
		})
	}
	data, err := json.Marshal(map[string]any{"messages": rows, "chats": rows})
	if err != nil {
		t.Fatal(err)
	}
	return op, data
}

func suite() channeltest.Suite {
	return channeltest.Suite{
		Channel: New(), Program: "loopback", Operation: drawOperation, Call: say, Answer: drawAnswer,
	}
}

func TestConformance(t *testing.T) { channeltest.Run(t, suite()) }

func TestClassify(t *testing.T) {
	bob := someone(t, "bob")
	read := policy.Operation{Channel: "loopback", Direction: policy.Inbound, Verb: policy.VerbRead, Command: "history", Default: true}
	history := func(chat policy.Peer, limit int) *policy.Operation {
		op := read
		op.Chat, op.Detail = chat, Query{limit}
		return &op
	}
	tests := []struct {
		method, params string
		want           *policy.Operation // nil: an error
	}{
		{"send", `{"to":"Bob","text":"hi"}`, &policy.Operation{Channel: "loopback", Verb: policy.VerbSend, Command: "send",
			Default: true, To: []policy.Peer{bob}, Body: []policy.Text{"hi"}}},
		{"send", `{"to":"bob","text":""}`, nil},
		{"send", `{"to":"bob"}`, nil},
		{"send", `{"text":"hi"}`, nil},
		{"send", `{"to":"","text":"hi"}`, nil},
		{"send", `{"To":"bob","text":"hi"}`, nil},
		{"send", `{"to":"bob","to":"eve","text":"hi"}`, nil},
		{"send", `{"to":"bob","text":"hi","file":"/etc/passwd"}`, nil},
		{"send", `{"to":"../bob","text":"hi"}`, nil},
		{"send", `{"to":"bob","text":null}`, nil},
		{"send", `{"to":"bob","text":7}`, nil},
		{"send", `[]`, nil},
		{"send", ``, nil},
		{"get_history", ``, history(policy.Peer{}, 50)},
		{"get_history", `{"peer":"bob","limit":3}`, history(bob, 3)},
		{"get_history", `{"chat":"bob"}`, history(bob, 50)},
		{"get_history", `{"peer":"bob","chat":"bob"}`, nil},
		{"get_history", `{"peer":""}`, nil},
		{"get_history", `{"limit":501}`, nil},
		{"list_chats", `{"limit":0}`, nil},
		{"watch", `{}`, nil},
	}
	for _, tt := range tests {
		got, err := New().Classify(channel.Call{Method: tt.method, Params: json.RawMessage(tt.params)})
		switch {
		case tt.want == nil && err == nil:
			t.Errorf("%s %s: made %+v", tt.method, tt.params, got)
		case tt.want != nil && (err != nil || !reflect.DeepEqual(got, *tt.want)):
			t.Errorf("%s %s:\ngot  %+v, %v\nwant %+v", tt.method, tt.params, got, err, *tt.want)
		}
	}
	var forbidden *channel.NotPermittedError
	if _, err := New().Classify(channel.Call{Argv: []string{"loopback", "send"}}); !errors.As(err, &forbidden) {
		t.Errorf("a command line: %v", err)
	}
}

func TestRender(t *testing.T) {
	c := New()
	op, err := c.Classify(channel.Call{Method: "get_history", Params: json.RawMessage(`{"limit":2}`)})
	if err != nil {
		t.Fatal(err)
	}
	items, dropped, err := c.Inbound(op, []byte(`{"messages":[
		{"id":"a","direction":"out","peer":"echo","text":"one","time":"2026-11-22T10:00:00.000Z"},
		{"id":"b","direction":"in","peer":"echo","text":"two","time":"2026-11-22T10:00:00.001Z"},
		{"id":"c","direction":"in","peer":"no peer","text":"three","time":"2026-11-22T10:00:00.002Z"},
		{"id":"d","direction":"in","peer":"bob","text":"four","time":"2026-11-22T10:00:00.003Z"}]}`))
	if err != nil || len(items) != 3 || dropped != 1 {
		t.Fatalf("Inbound: %d items, %d dropped, %v", len(items), dropped, err)
	}
	if items[0].From != (policy.Peer{}) || items[1].From != someone(t, "echo") || items[1].Chat != someone(t, "echo") {
		t.Errorf("who wrote what: %+v", items)
	}
	got, err := json.Marshal(c.Render(channel.Call{Method: "get_history"}, op, channel.Result{Shown: items}).Result)
	const want = `{"messages":[` +
		`{"id":"b","channel":"loopback","direction":"in","peer":"echo","from":"echo","text":"two","time":"2026-11-22T10:00:00.001Z"},` +
		`{"id":"d","channel":"loopback","direction":"in","peer":"bob","from":"bob","text":"four","time":"2026-11-22T10:00:00.003Z"}]}`
	if err != nil || string(got) != want {
		t.Errorf("the newest two, oldest first:\ngot  %s\nwant %s", got, want)
	}
	send := policy.Operation{Channel: "loopback", Verb: policy.VerbSend}
	out := c.Render(channel.Call{Method: "send"}, send, channel.Result{Reply: channel.Reply{Data: []byte(`{"id":"0123456789abcdef","status":"sent"}`)}})
	if out.Result != (channel.Sent{ID: "0123456789abcdef", Status: "sent"}) || out.Exit != 0 {
		t.Errorf("sent: %+v", out)
	}
	out = c.Render(channel.Call{Method: "send"}, send, channel.Result{Reply: channel.Reply{Data: []byte(`{"id":"/etc","status":"sent"}`)}})
	if out.Exit == 0 || out.Result != nil {
		t.Errorf("an id that the messenger does not make is shown: %+v", out)
	}
}

func FuzzClassify(f *testing.F) {
	for _, p := range []string{`{"to":"bob","text":"hi"}`, `{"to":"bob","to":"eve"}`, `{"limit":3}`, `{"peer":"echo"}`, "{\"to\":\"\xff\"}"} {
		f.Add("send", []byte(p))
		f.Add("get_history", []byte(p))
	}
	s := suite()
	f.Fuzz(func(t *testing.T, method string, params []byte) {
		s.CheckCall(t, channel.Call{Method: method, Params: params})
	})
}

func FuzzInbound(f *testing.F) {
	f.Add([]byte(`{"messages":[{"id":"a","direction":"in","peer":"echo","text":"canary-a","time":"2026-11-22T10:00:00.000Z"}]}`))
	f.Add([]byte(`{"chats":[{"peer":"echo","last_message_at":"2026-11-22T10:00:00.000Z"}]}`))
	s := suite()
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, method := range []string{"get_history", "list_chats"} {
			op, err := New().Classify(channel.Call{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			s.CheckAnswer(t, op, data)
		}
	})
}

// TestThroughMessenger sends and reads through both halves, as the daemon does.
func TestThroughMessenger(t *testing.T) {
	m, err := Open(t.TempDir() + "/loopback")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, text := range []string{"hi", "line\nend \u202e and <b> \\ \x00"} {
		run(t, m, "send", map[string]any{"to": "echo", "text": text})
	}
	out := run(t, m, "get_history", map[string]any{"peer": "echo"})
	messages := out.Result.(channel.History).Messages
	var said []string
	for _, msg := range messages {
		said = append(said, msg.Direction+":"+msg.From+":"+msg.Text)
	}
	want := []string{"out::hi", "in:echo:hi", "out::line\nend \u202e and <b> \\ \x00", "in:echo:line\nend \u202e and <b> \\ \x00"}
	if !reflect.DeepEqual(said, want) {
		t.Errorf("echo:\ngot  %q\nwant %q", said, want)
	}
	chats := run(t, m, "list_chats", nil).Result.(channel.Conversations).Chats
	if len(chats) != 1 || chats[0].Peer != "echo" || !strings.HasSuffix(chats[0].LastMessageAt, "Z") {
		t.Errorf("chats: %+v", chats)
	}
}

func run(t *testing.T, m *Messenger, method string, params any) channel.Output {
	t.Helper()
	c := New()
	raw, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	if params == nil {
		raw = nil
	}
	call := channel.Call{Method: method, Params: raw}
	op, err := c.Classify(call)
	if err != nil {
		t.Fatal(err)
	}
	command, err := c.Command(op)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := m.Run(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}
	shown, dropped, err := c.Inbound(op, reply.Data)
	if err != nil || dropped != 0 {
		t.Fatalf("dropped %d, %v", dropped, err)
	}
	return c.Render(call, op, channel.Result{Reply: reply, Shown: shown})
}
