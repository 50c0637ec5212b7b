package imsg

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/adapter"
	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/channel/imsg/imsgtest"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// bench is the stand-in tool, kept alive by the adapter that the daemon uses.
type bench struct {
	*testing.T
	channel *Channel
	tool    channel.Runner
	dir     string // of the stand-in
}

func start(t *testing.T, f imsgtest.Fixture) *bench {
	t.Helper()
	path, err := filepath.EvalSymlinks(imsgtest.Build(t))
	if err != nil {
		t.Fatal(err)
	}
	f.Dir = t.TempDir()
	imsgtest.Feed(t, path, f)
	r := adapter.NewResident(adapter.Spec{
		Name: "imessage", Tool: path, Args: []string{"rpc"}, Dir: f.Dir, Home: f.Dir, TrustOwner: []uint32{uint32(os.Getuid())},
		Probe: &channel.Request{Method: "chats.list", Params: map[string]any{"limit": 1}},
	})
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return &bench{t, New("US"), r, f.Dir}
}

// call takes a call all the way, with rules that permit everything.
func (b *bench) call(c channel.Call) channel.Output {
	b.Helper()
	op, err := b.channel.Classify(c)
	if err != nil {
		b.Fatal(err)
	}
	if question, ok := b.channel.Lookup(op); ok {
		reply, err := b.tool.Run(b.Context(), question)
		if err != nil {
			b.Fatal(err)
		}
		if op, err = b.channel.Resolve(op, reply); err != nil {
			b.Fatal(err)
		}
	}
	command, err := b.channel.Command(op)
	var told *channel.ToolError
	if errors.As(err, &told) {
		return b.channel.Render(c, op, channel.Result{Err: &channel.Refusal{Code: channel.CodeToolFailed, Reason: told.Text}})
	}
	if err != nil {
		b.Fatal(err)
	}
	reply, err := b.tool.Run(b.Context(), command)
	if errors.As(err, &told) {
		return b.channel.Render(c, op, channel.Result{Err: &channel.Refusal{Code: channel.CodeToolFailed, Reason: told.Text}})
	}
	if err != nil {
		b.Fatal(err)
	}
	items, _, err := b.channel.Inbound(op, reply.Data)
	if err != nil {
		b.Fatal(err)
	}
	return b.channel.Render(c, op, channel.Result{Reply: reply, Shown: items})
}

func (b *bench) imsg(argv ...string) string {
	b.Helper()
	return string(b.call(channel.Call{Argv: append([]string{"imsg"}, argv...)}).Stdout)
}

// TestWithTool runs the commands through a tool that behaves as imsg does.
func TestWithTool(t *testing.T) {
	f := imsgtest.Sample()
	f.Messages = append(f.Messages, imsgtest.Message{ID: 5, ChatID: 2, GUID: "AAAA-5", Sender: "+15550001111", Text: "look", CreatedAt: "2026-05-15T10:01:00.000Z",
		ReplyToGUID: "AAAA-4", ReplyToText: "lunch?", ReplyToSender: "+15550002222",
		Attachments: []imsgtest.Attachment{{Filename: "~/Library/Messages/Attachments/aa/pic.png", TransferName: "pic.png", MIME: "image/png", Bytes: 4, OriginalPath: "/Users/carapace/Library/Messages/Attachments/aa/pic.png"}}})
	b := start(t, f)
	for argv, want := range map[string]string{
		"chats": "[1] Test Chat (+123) last=2026-05-16T15:40:34.123Z\n" +
			"[2] +15550001111 (+15550001111) last=2026-05-15T10:00:00.000Z\n[3] Crew (chat700) last=2026-05-14T10:00:00.000Z\n",
		"chats|--limit|1": "[1] Test Chat (+123) last=2026-05-16T15:40:34.123Z\n",
		"history|--chat-id|2|--attachments": "2026-05-15T10:01:00.000Z [recv] +15550001111: look\n  attachment: name=pic.png mime=image/png missing=true path=\n" +
			"2026-05-15T10:00:00.000Z [sent] +15550001111: yes\n" +
			`2026-05-15T09:59:00.000Z [recv] +15550001111: are you there?\n2026-05-15T10:00:00.000Z [recv] Boss: pay him` + "\n",
		"history|--chat-id|2|--start|2026-05-15T12:00:30+02:00": "2026-05-15T10:01:00.000Z [recv] +15550001111: look\n  (1 attachment)\n",
		"history|--chat-id|1":                 "2026-05-16T15:40:34.123Z [recv] +123: hello\n",
		"history|--chat-id|99":                "Chat not found: 99\n",
		"send|--chat-id|99|--text|hi":         "Invalid chat target: Unknown chat id 99\n",
		"send|--to|(415) 555-1212|--text|one": "sent\n",
		"send|--chat-id|1|--text|two":         "sent\n",
		"send|--chat-id|3|--text|three|-j":    "{\"status\":\"sent\"}\n",
	} {
		if got := b.imsg(strings.Split(argv, "|")...); got != want {
			t.Errorf("imsg %s\ngot  %q\nwant %q", argv, got, want)
		}
	}
	reached := map[string]string{}
	for _, s := range imsgtest.SentIn(t, b.dir) {
		reached[s.Text] = s.Buddy + s.Chat
		if got := strings.Join(s.Argv[1:], " "); got != "rpc" {
			t.Errorf("argv of the tool: %q", s.Argv)
		}
	}
	if reached["one"] != "+14155551212" || reached["two"] != "+123" || reached["three"] != "iMessage;+;chat700" || len(reached) != 3 {
		t.Errorf("reached %v", reached)
	}
}

func TestWithToolMethods(t *testing.T) {
	b := start(t, imsgtest.Sample())
	ask := func(method, params string) string {
		t.Helper()
		out, err := json.Marshal(b.call(channel.Call{Method: method, Params: json.RawMessage(params)}).Result)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	const text = "-h\n\u202e --to +15550009999"
	raw, err := json.Marshal(map[string]string{"to": "chat:iMessage;+;chat700", "text": text})
	if err != nil {
		t.Fatal(err)
	}
	if got := ask("send", string(raw)); got != `{"id":"8DF1B3D7-0001","status":"sent"}` {
		t.Errorf("send: %s", got)
	}
	if sent := imsgtest.SentIn(t, b.dir); len(sent) != 1 || sent[0].Text != text || sent[0].Chat != "iMessage;+;chat700" {
		t.Errorf("sent %+v", sent)
	}
	const history = `{"messages":[{"id":"4","channel":"imessage","direction":"in","peer":"chat:iMessage;+;chat700","from":"+15550002222","text":"lunch?","time":"2026-05-14T10:00:00.000Z"}]}`
	if got := ask("get_history", `{"chat":"iMessage;+;chat700"}`); got != history {
		t.Errorf("get_history: %s", got)
	}
	if got := ask("list_chats", `{"limit":1}`); got != `{"chats":[{"peer":"chat:iMessage;+;chat123","last_message_at":"2026-05-16T15:40:34.123Z"}]}` {
		t.Errorf("list_chats: %s", got)
	}
}

func TestWithToolFile(t *testing.T) {
	b := start(t, imsgtest.Sample())
	staged := filepath.Join(b.dir, "staged")
	if err := os.WriteFile(staged, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	call := channel.Call{
		Argv:  []string{"imsg", "send", "--to", "+15550001111", "--file", "file:1"},
		Files: map[string]policy.File{"file:1": {Handle: "file:1", Name: "a.txt", Size: 4, Path: staged}},
	}
	if out := b.call(call); string(out.Stdout) != "sent\n" || out.Exit != 0 {
		t.Errorf("%+v", out)
	}
	sent := imsgtest.SentIn(t, b.dir)
	if len(sent) != 1 || sent[0].File != staged || sent[0].SHA256 != "04efaf080f5a3e74e1c29d1ca6a48569382cbbcd324e8d59d2b83ef21c039f00" {
		t.Errorf("sent %+v", sent)
	}
	if err := os.Remove(staged); err != nil {
		t.Fatal(err)
	}
	if out := b.call(call); strings.Contains(string(out.Stdout), b.dir) || !strings.HasPrefix(string(out.Stdout), "AppleScript failed: ") || out.Exit != 1 {
		t.Errorf("%+v", out)
	}
}
