package imsg

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/channel/channeltest"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

func someone(t testing.TB, text string) policy.Peer {
	t.Helper()
	p, err := policy.ParsePeer("imessage", text, "US")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// world is the list of conversations of the owner of the tests: what the tool
// would answer to chats.list.
const world = `{"chats":[
	{"id":1,"identifier":"+123","guid":"iMessage;+;chat123","name":"Test Chat","service":"iMessage","last_message_at":"2026-05-16T15:40:34.123Z","participants":["+123"],"is_group":true},
	{"id":2,"identifier":"+15550001111","guid":"iMessage;-;+15550001111","name":"Jane Doe","contact_name":"Jane Doe","service":"iMessage","last_message_at":"2026-05-15T10:00:00.000Z","participants":["+15550001111"],"is_group":false},
	{"id":3,"identifier":"chat700","guid":"iMessage;+;chat700","name":"Crew","service":"iMessage","last_message_at":"2026-05-14T10:00:00.000Z","participants":["+15550001111","+15550002222"],"is_group":true},
	{"id":4,"identifier":"jane@family.example","guid":"iMessage;-;jane@family.example","name":"","service":"iMessage","last_message_at":"2026-05-13T10:00:00.000Z","participants":["jane@family.example"],"is_group":false},
	{"id":5,"identifier":"chat800","guid":"any;-;chat800","name":"Looks direct","service":"iMessage","last_message_at":"2026-05-12T10:00:00.000Z","participants":["+15550001111","+15550002222"],"is_group":false},
	{"id":6,"identifier":"+15550003333","guid":"iMessage;-;+15550004444","name":"Torn","service":"iMessage","last_message_at":"2026-05-11T10:00:00.000Z","participants":["+15550003333"],"is_group":false},
	{"id":7,"identifier":"sms:+15550005555","guid":"","name":"Prefixed","service":"SMS","last_message_at":"2026-05-10T10:00:00.000Z","participants":["+15550005555"],"is_group":false},
	{"id":8,"identifier":"+15550001111","guid":"SMS;-;+15550001111","name":"","service":"SMS","last_message_at":"2026-05-09T10:00:00.000Z","participants":["+15550001111"],"is_group":false},
	{"id":9,"identifier":"chat900","guid":"iMessage;+;chat900","name":"","service":"iMessage","last_message_at":"2026-05-08T10:00:00.000Z","participants":[],"is_group":true},
	{"id":10,"identifier":"chat900","guid":"SMS;+;chat900","name":"","service":"SMS","last_message_at":"2026-05-07T10:00:00.000Z","participants":[],"is_group":true}]}`

func answerWorld(channel.Command) channel.Reply { return channel.Reply{Data: []byte(world)} }

var handles = []string{"+15550001111", "+14155551212", "+123", "jane@family.example", "a.b+c@x.example"}

func drawOperation(t *rapid.T) policy.Operation {
	parse := func(s string) policy.Peer {
		p, err := policy.ParsePeer("imessage", s, "US")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	switch rapid.IntRange(0, 2).Draw(t, "verb") {
	case 0:
		op := policy.Operation{Channel: "imessage", Verb: policy.VerbSend, Command: "send", Default: true}
		to := parse(rapid.SampledFrom(append(handles, "chat:iMessage;+;chat700", "chat:any;+;x-1", "SMS;+;chat9")).Draw(t, "to"))
		op.To, op.Group = []policy.Peer{to}, to.Kind() == policy.KindChat
		op.Detail = Send{Service: rapid.SampledFrom([]string{"auto", "imessage", "sms"}).Draw(t, "service")}
		what := rapid.IntRange(1, 3).Draw(t, "what")
		if what&1 != 0 {
			// A command line cannot say a text that looks like an option, and
			// no program can be given a zero byte.
			text := strings.ReplaceAll(strings.TrimLeft(rapid.StringN(1, 60, 500).Draw(t, "text"), "-"), "\x00", "")
			if text == "" {
				text = "-"
			}
			op.Body = []policy.Text{policy.Text(text)}
		}
		if what&2 != 0 {
			op.Files = []policy.File{{Handle: "file:1", Name: "pic.jpg", Size: 3, SHA256: "ab", Path: "/state/files/7/pic.jpg"}}
		}
		return op
	case 1:
		op := policy.Operation{Channel: "imessage", Direction: policy.Inbound, Verb: policy.VerbRead, Command: "history", Default: true}
		d := History{Limit: rapid.IntRange(0, channel.MaxRows).Draw(t, "limit")}
		d.Target.ChatID = rapid.SampledFrom([]int64{1, 2, 3, 4, 5, 8, 9}).Draw(t, "chat")
		op.Chat = parse(map[int64]string{1: "iMessage;+;chat123", 2: "+15550001111", 3: "iMessage;+;chat700", 4: "jane@family.example",
			5: "any;+;chat800", 8: "+15550001111", 9: "iMessage;+;chat900"}[d.Target.ChatID])
		op.Group = op.Chat.Kind() == policy.KindChat
		if rapid.Bool().Draw(t, "filtered") {
			d.Participants = rapid.SliceOfN(rapid.SampledFrom(handles), 1, 4).Draw(t, "participants")
		}
		times := rapid.SampledFrom([]string{"", "2026-05-16T15:40:34.123Z", "1999-12-31T00:00:00.000Z"})
		d.Start, d.End = times.Draw(t, "start"), times.Draw(t, "end")
		op.Detail = d
		return op
	}
	return policy.Operation{Channel: "imessage", Direction: policy.Inbound, Verb: policy.VerbList, Command: "chats", Default: true,
		Detail: Chats{Limit: rapid.IntRange(0, channel.MaxRows).Draw(t, "limit")}}
}

// say puts a request to the tool into a client's words.
func say(c channel.Command, files []policy.File) (channel.Call, error) {
	raw, err := json.Marshal(c.Request.Params)
	if err != nil {
		return channel.Call{}, err
	}
	var p map[string]any
	if err := json.Unmarshal(raw, &p); err != nil {
		return channel.Call{}, err
	}
	call := channel.Call{Files: map[string]policy.File{}}
	paths := map[string]string{}
	for _, f := range files {
		call.Files[f.Handle], paths[f.Path] = f, f.Handle
	}
	argv := []string{"imsg"}
	number := func(key string, minus, by float64) string {
		return strconv.Itoa(int((p[key].(float64) - minus) / by))
	}
	switch c.Request.Method {
	case "send":
		argv = append(argv, "send")
		if p["transport"] != "applescript" {
			return call, fmt.Errorf("transport %v can deliver twice", p["transport"])
		}
		for key, option := range map[string]string{"to": "--to", "chat_guid": "--chat-guid", "text": "--text", "service": "--service"} {
			if v, ok := p[key]; ok {
				argv = append(argv, option, v.(string))
			}
		}
		if v, ok := p["file"]; ok {
			argv = append(argv, "--file", paths[v.(string)])
		}
	case "messages.history":
		argv = append(argv, "history", "--chat-id", number("chat_id", 0, 1), "--limit", number("limit", 50, 2))
		if list, ok := p["participants"].([]any); ok {
			argv = append(argv, "--participants")
			for _, one := range list {
				argv = append(argv, one.(string))
			}
		}
		for _, key := range []string{"start", "end"} {
			if v, ok := p[key]; ok {
				argv = append(argv, "--"+key, v.(string))
			}
		}
	case "chats.list":
		argv = append(argv, "chats", "--limit", number("limit", 500, 1))
	default:
		return call, fmt.Errorf("unknown method %q", c.Request.Method)
	}
	call.Argv = argv
	return call, nil
}

var words = []string{
	"send", "chats", "history", "watch", "react", "rpc", "launch", "poll", "--to", "--chat-id", "--chat-guid", "--chat-identifier",
	"--text", "--file", "--service", "--region", "--limit", "--participants", "--start", "--db", "--json", "-j", "-jv", "-v", "--log-level",
	"--", "-", "-5", "--to=+15550001111", "--convert-attachments", "--attachments", "--help", "-h", "--version", "-V",
	"+15550001111", "415-555-1212", "Jane", "jane@family.example", "iMessage;-;+15550001111", "iMessage;+;chat700", "any;-;chat800",
	"imessage:+15550001111", "chat700", "chat900", "1", "3", "7", "99", "x", "", "hi", "/etc/passwd", "file:1", "auto", "sms", "fax", "DE",
	"2026-05-16T15:40:34Z",
}

func suite() channeltest.Suite {
	return channeltest.Suite{
		Channel: New("US"), Program: "imsg", StdoutErrors: true, Operation: drawOperation, Call: say, World: answerWorld,
		Words: words, Answer: drawAnswer,
	}
}

func drawAnswer(t *rapid.T) (policy.Operation, []byte) {
	op := drawOperation(t)
	canary := func(label string) string {
		return channeltest.Canary + rapid.StringMatching(`[a-z]{6}`).Draw(t, label)
	}
	pick := func(label string, from ...any) any { return rapid.SampledFrom(from).Draw(t, label) }
	row := func() map[string]any {
		return map[string]any{
			"id": pick("id", 1, 2, 0, -1, "1", 1.5), "chat_id": pick("chat_id", 1, 2, 3, 0), "guid": pick("guid", "A-1", "", "a b"),
			"sender": pick("sender", "+15550001111", "+123", "", "AMAZON"), "is_from_me": pick("me", true, false, nil),
			"text": canary("text"), "created_at": pick("at", "2026-05-16T15:40:34.123Z", "now"),
			"attachments":     pick("files", []any{}, nil, []any{map[string]any{"filename": "~/x/" + canary("file"), "transfer_name": canary("transfer"), "mime_type": "image/png", "total_bytes": 4}}),
			"reactions":       pick("reactions", []any{}, []any{map[string]any{"id": 1, "type": "love", "emoji": canary("emoji"), "sender": "+15550001111", "created_at": "2026-05-16T15:40:34.123Z"}}),
			"chat_identifier": pick("identifier", "+15550001111", "+123", "chat700", "", 7), "identifier": pick("identifier2", "+15550001111", "chat700", "sms:+1"),
			"chat_guid": pick("chat guid", "iMessage;-;+15550001111", "iMessage;+;chat123", "iMessage;+;chat700", ""),
			"chat_name": canary("name"), "name": canary("title"), "service": "iMessage", "last_message_at": "2026-05-16T15:40:34.123Z",
			"participants": pick("people", []any{"+15550001111"}, []any{"+123"}, []any{"+1", "+2"}, []any{nil}), "is_group": pick("group", true, false),
		}
	}
	var rows []any
	for range rapid.IntRange(0, 4).Draw(t, "rows") {
		rows = append(rows, row())
	}
	data, err := json.Marshal(map[string]any{"messages": rows, "chats": rows})
	if err != nil {
		t.Fatal(err)
	}
	return op, data
}

func TestConformance(t *testing.T) { channeltest.Run(t, suite()) }

// TestSend says whom a send reaches, for everything a client may say, after
// the tool was asked where it must be.
func TestSend(t *testing.T) {
	staged := map[string]policy.File{"file:1": {Handle: "file:1", Name: "a.png", Path: "/state/files/1"}}
	tests := []struct {
		argv string // separated by |
		want string // the request, or the error
	}{
		{"--to|+15551234567|--text|hi", `{"to":"+15551234567","text":"hi","service":"auto","transport":"applescript"}`},
		{"--to|(415) 555-1212|--text|hi", `{"to":"+14155551212","text":"hi","service":"auto","transport":"applescript"}`},
		{"--to|030 901820|--region|DE|--text|hi", `{"to":"+4930901820","text":"hi","service":"auto","transport":"applescript"}`},
		{"--to|Jane@Family.Example|--text|hi|--service|imessage", `{"to":"jane@family.example","text":"hi","service":"imessage","transport":"applescript"}`},
		{"--to|+15550001111|--to|+15550002222|--text|a|--text|b", `{"to":"+15550002222","text":"b","service":"auto","transport":"applescript"}`},
		{"--to|+15550001111|--text|hi|extra|--db|/etc/passwd", `{"to":"+15550001111","text":"hi","service":"auto","transport":"applescript"}`},
		{"--to|+15550001111|--text|hi|--|--to|+15550002222", `{"to":"+15550001111","text":"hi","service":"auto","transport":"applescript"}`},
		{"--to|+15550001111|--text|-5", `{"to":"+15550001111","text":"-5","service":"auto","transport":"applescript"}`},
		{"--to|+15550001111|--file|file:1", `{"to":"+15550001111","file":"/state/files/1","service":"auto","transport":"applescript"}`},
		{"--chat-id|1|--text|hi", `{"to":"+123","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-id|2|--text|hi", `{"to":"+15550001111","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-id|3|--text|hi", `{"chat_guid":"iMessage;+;chat700","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-id|5|--text|hi", `{"chat_guid":"any;+;chat800","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-id|3|--chat-guid|iMessage;-;+15550002222|--text|hi", `{"chat_guid":"iMessage;+;chat700","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-id|x|--to|+15550001111|--text|hi", `{"to":"+15550001111","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-guid|iMessage;+;chat700|--text|hi", `{"chat_guid":"iMessage;+;chat700","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-guid|iMessage;-;+15550001111|--text|hi", `{"to":"+15550001111","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-guid|SMS;-;+15550001111|--text|hi", `{"to":"+15550001111","text":"hi","service":"sms","transport":"applescript"}`},
		{"--chat-identifier|+1 (555) 000-1111|--text|hi", `{"to":"+15550001111","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-identifier|chat700|--text|hi", `{"chat_guid":"iMessage;+;chat700","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-identifier|chat900|--text|hi", `{"chat_guid":"iMessage;+;chat900","text":"hi","service":"auto","transport":"applescript"}`},
		{"--chat-identifier|chat700|--chat-guid|iMessage;+;chat700|--text|hi", `{"chat_guid":"iMessage;+;chat700","text":"hi","service":"auto","transport":"applescript"}`},

		{"--chat-identifier|+15550001111|--chat-guid|iMessage;+;chat700|--text|hi", "not permitted: --chat-identifier and --chat-guid of different chats"},
		{"--chat-identifier|chat701|--chat-guid|iMessage;+;chat700|--text|hi", "not permitted: --chat-identifier and --chat-guid of different chats"},
		{"--chat-identifier|imessage:+15550001111|--text|hi", "not permitted: a chat with a service prefix"},
		{"--chat-guid|sms:+15550001111|--text|hi", "not permitted: a chat with a service prefix"},
		{"--to|imessage:+15550001111|--text|hi", "not permitted: a recipient that is no phone number or e-mail address"},
		{"--to|iMessage;-;+15550001111|--text|hi", "not permitted: a recipient that is no phone number or e-mail address"},
		{"--to|chat:iMessage;+;chat700|--text|hi", "not permitted: a recipient that is no phone number or e-mail address"},
		{"--to|Jane|--text|hi", "not permitted: a recipient that is no phone number or e-mail address"},
		{"--to|+15550001111|--file|/etc/passwd", "not permitted: option --file with a file that was not transferred"},
		{"--to|+15550001111|--file|file:2", "not permitted: option --file with a file that was not transferred"},
		{"--to|+15550001111|--text|hi|--no-sms-fallback", "not permitted: option --no-sms-fallback"},

		{"--chat-id|99|--text|hi", "unknown: Invalid chat target: Unknown chat id 99"},
		{"--chat-id|6|--text|hi", "unknown: Invalid chat target: Unknown chat id 6"},
		{"--chat-id|7|--text|hi", "unknown: Invalid chat target: Unknown chat id 7"},
		{"--chat-identifier|chat999|--text|hi", "unknown: Invalid chat target: Unknown chat"},
		{"--chat-id|0|--text|hi", "usage: Invalid chat target: Unknown chat id 0"},

		{"--to|+15550001111|--chat-id|1|--text|hi", "usage: Invalid value for option: --to"},
		{"--text|hi", "usage: Missing required option: --to"},
		{"--to||--text|hi", "usage: Missing required option: --to"},
		{"--chat-id|x|--text|hi", "usage: Missing required option: --to"},
		{"--to|+15550001111", "usage: Missing required option: --text or file"},
		{"--to|+15550001111|--text|", "usage: Missing required option: --text or file"},
		{"--to|+15550001111|--text|hi|--service|fax", "usage: Invalid service: fax"},
		{"--to|+15550001111|--text|hi|--service|SMS", "usage: Invalid service: SMS"},
		{"--to|+15550001111|--text=hi", "usage: Unknown option --text=hi"},
		{"--to|+15550001111|--text|--json", "usage: Missing value for option --text"},
		{"--to|+15550001111|--text|-x", "usage: Missing value for option --text"},
		{"--to|+15550001111|--text|-5x", "usage: Missing value for option --text"},
		{"--to|+15550001111|--text", "usage: Missing value for option --text"},
		{"--to|+15550001111|--text|hi|-jx", "usage: Unknown option -x"},
		{"--to|+15550001111|--text|hi|-x", "usage: Unknown option --x"},
		{"--to|+15550001111|--text|hi|--dylib|x", "usage: Unknown option --dylib"},
	}
	s := suite()
	for _, tt := range tests {
		call := channel.Call{Argv: append([]string{"imsg", "send"}, strings.Split(tt.argv, "|")...), Files: staged}
		if got := fate(t, s, call); got != tt.want {
			t.Errorf("imsg send %s\ngot  %s\nwant %s", tt.argv, got, tt.want)
		}
	}
}

// fate says in one line what becomes of a call.
func fate(t *testing.T, s channeltest.Suite, call channel.Call) string {
	t.Helper()
	op, err := s.Channel.Classify(call)
	var (
		complaint *channel.UsageError
		forbidden *channel.NotPermittedError
		tool      *channel.ToolError
		wrong     *channel.ParamsError
	)
	switch {
	case errors.As(err, &complaint):
		want := complaint.Text + "\n"
		if !strings.HasPrefix(string(complaint.Output.Stdout), want) || complaint.Output.Exit != 1 || len(complaint.Output.Stderr) > 0 {
			t.Errorf("%q prints %+v", call.Argv, complaint.Output)
		}
		return "usage: " + complaint.Text
	case errors.As(err, &forbidden):
		what, _, _ := strings.Cut(forbidden.What, " (")
		return "not permitted: " + what
	case errors.As(err, &wrong):
		return "parameters: " + wrong.What
	case err != nil:
		t.Fatal(err)
	}
	if op, err = s.Settle(op); err != nil {
		t.Fatal(err)
	}
	command, err := s.Channel.Command(op)
	if errors.As(err, &tool) {
		// It is judged as a conversation that is on no list.
		if judged := append(op.To, op.Chat); !strings.Contains(fmt.Sprint(judged), "no-such-chat") {
			t.Errorf("%q: an unknown chat is judged as %v", call.Argv, judged)
		}
		return "unknown: " + tool.Text
	}
	if err != nil {
		t.Fatal(err)
	}
	params, err := json.Marshal(command.Request.Params)
	if err != nil {
		t.Fatal(err)
	}
	return string(params)
}

func TestRead(t *testing.T) {
	tests := []struct {
		argv, want string
		chat       string
	}{
		{"history|--chat-id|1", `{"chat_id":1,"limit":150,"attachments":true}`, "chat:iMessage;+;chat123"},
		{"history|--chat-id|2|--limit|5|-j", `{"chat_id":2,"limit":60,"attachments":true}`, "+15550001111"},
		{"history|--chat-id|2|--limit|x", `{"chat_id":2,"limit":150,"attachments":true}`, "+15550001111"},
		{"history|--chat-id|2|--limit|-1", `{"chat_id":2,"limit":1050,"attachments":true}`, "+15550001111"},
		{"history|--chat-id|2|--limit|99999", `{"chat_id":2,"limit":1050,"attachments":true}`, "+15550001111"},
		{"history|--chat-id|2|--participants|+1 555 000 1111,Jane@Family.Example|+123|--start|2026-05-16T17:40:34+02:00",
			`{"chat_id":2,"limit":150,"participants":["+15550001111","jane@family.example","+123"],"start":"2026-05-16T15:40:34.000Z","attachments":true}`, "+15550001111"},
		{"history|--chat-id|2|--participants|Jane", "not permitted: this list of participants", ""},
		{"history|--chat-id|2|--convert-attachments", "not permitted: option --convert-attachments", ""},
		{"history", "usage: Missing required option: --chat-id", ""},
		{"history|--chat-id|x", "usage: Missing required option: --chat-id", ""},
		{"history|--chat-id|2|--start|yesterday", "usage: Invalid ISO8601 date: yesterday", ""},
		{"history|--chat-id|2|--start|", "usage: Invalid ISO8601 date: ", ""},
		{"history|--chat-id|99", "unknown: Chat not found: 99", ""},
		{"history|--chat-id|-3", "usage: Chat not found: -3", ""},
		{"chats", `{"limit":520}`, ""},
		{"chats|--limit|7|--db|/x|--json", `{"limit":507}`, ""},
		{"chats|--unread-only", "not permitted: option --unread-only", ""},
		{"chats|--nope", "usage: Unknown option --nope", ""},
		{"nope", "usage: Unknown subcommand 'nope' for command 'imsg'", ""},
		{"--json", "usage: Command 'imsg' requires a subcommand", ""},
		{"status|--db|/x", "usage: Unknown option --db", ""},
		{"launch|--dylib|/tmp/x", "not permitted: command launch", ""},
		{"react|--chat-id|1|-r|like", "not permitted: command react", ""},
		{"react|-r", "usage: Missing value for option --r", ""},
		{"rpc|--db|x", "not permitted: command rpc", ""},
		{"completions|bash", "not permitted: command completions", ""},
		{"completions|--json", "usage: Unknown option --json", ""},
		{"poll|send|--whatever", "not permitted: command poll", ""},
		{"search|--query|ell|--match|contains|--json", "not permitted: command search", ""},
		{"send-rich|--chat|iMessage;-;+15551234567|--reply-to|p|--text|t|--file|~/x|--no-dd-scan", "not permitted: command send-rich", ""},
	}
	s := suite()
	for _, tt := range tests {
		call := channel.Call{Argv: append([]string{"imsg"}, strings.Split(tt.argv, "|")...)}
		if got := fate(t, s, call); got != tt.want {
			t.Errorf("imsg %s\ngot  %s\nwant %s", tt.argv, got, tt.want)
		}
		if tt.chat == "" {
			continue
		}
		op, err := s.Channel.Classify(call)
		if err == nil {
			op, err = s.Settle(op)
		}
		if err != nil || op.Chat.String() != tt.chat {
			t.Errorf("imsg %s reads %s, not %s (%v)", tt.argv, op.Chat, tt.chat, err)
		}
	}
}

// TestEveryCommandIsKnown holds the table to the list of the contract's §3 and
// §6: each is served or refused by name.
func TestEveryCommandIsKnown(t *testing.T) {
	const all = `chats group history watch search send react read typing launch status rpc completions send-rich send-multipart
		send-attachment tapback edit unsend delete-message notify-anyways chat-create chat-name chat-photo chat-add-member
		chat-remove-member chat-leave chat-delete chat-mark account whois nickname stats scheduled chat-background poll
		send-sticker name-photo contact-card`
	served := map[string]bool{"send": true, "chats": true, "history": true}
	for name := range strings.FieldsSeq(all) {
		_, err := New("").Classify(channel.Call{Argv: []string{"imsg", name}})
		var forbidden *channel.NotPermittedError
		if !served[name] && (!errors.As(err, &forbidden) || forbidden.What != "command "+name) {
			t.Errorf("imsg %s: %v", name, err)
		}
	}
	if n := len(commands()); n != len(strings.Fields(all)) {
		t.Errorf("the table has %d commands", n)
	}
}

func TestMethods(t *testing.T) {
	tests := []struct{ method, params, want string }{
		{"send", `{"to":"+1 (555) 000-1111","text":"-h"}`, `{"to":"+15550001111","text":"-h","service":"auto","transport":"applescript"}`},
		{"send", `{"to":"chat:iMessage;+;chat700","text":"hi"}`, `{"chat_guid":"iMessage;+;chat700","text":"hi","service":"auto","transport":"applescript"}`},
		{"send", `{"to":"+15550001111","text":""}`, "parameters: to and text are required"},
		{"send", `{"to":"+15550001111","text":"t","file":"/etc/passwd"}`, `parameters: unknown parameter "file"`},
		{"send", `{"to":"+15550001111","to":"+15550002222","text":"t"}`, `parameters: parameter "to" comes twice`},
		{"get_history", `{"peer":"+15550001111"}`, `{"chat_id":2,"limit":150,"attachments":true}`},
		{"get_history", `{"chat":"chat:any;+;chat700","limit":1}`, `{"chat_id":3,"limit":52,"attachments":true}`},
		{"get_history", `{"chat_id":4}`, `{"chat_id":4,"limit":150,"attachments":true}`},
		{"get_history", `{"chat_id":44}`, "unknown: Chat not found: 44"},
		{"get_history", `{}`, "parameters: one of peer, chat and chat_id is required"},
		{"get_history", `{"peer":"+15550001111","chat_id":4}`, "parameters: one of peer, chat and chat_id is required"},
		{"get_history", `{"chat_id":"4"}`, `parameters: parameter "chat_id" has the wrong type`},
		{"list_chats", ``, `{"limit":520}`},
		{"list_chats", `{"limit":501}`, `parameters: parameter "limit" is from 1 to 500`},
		{"watch", `{}`, `not permitted: method "watch"`},
	}
	s := suite()
	for _, tt := range tests {
		call := channel.Call{Method: tt.method, Params: json.RawMessage(tt.params)}
		if got := fate(t, s, call); got != tt.want {
			t.Errorf("%s %s\ngot  %s\nwant %s", tt.method, tt.params, got, tt.want)
		}
	}
	// Somebody with whom there is no conversation is judged as himself.
	op, err := s.Channel.Classify(channel.Call{Method: "get_history", Params: json.RawMessage(`{"peer":"+15550009999"}`)})
	if err == nil {
		op, err = s.Settle(op)
	}
	if err != nil || op.Chat != someone(t, "+15550009999") {
		t.Errorf("reads %s, %v", op.Chat, err)
	}
}

// TestClassifiedSend compares one whole operation: what the rules see.
func TestClassifiedSend(t *testing.T) {
	file := policy.File{Handle: "file:1", Name: "a.png", Size: 4, SHA256: "ab", Path: "/state/1"}
	got, err := New("").Classify(channel.Call{
		Argv:  []string{"imsg", "send", "--chat-guid", "iMessage;+;chat700", "--text", "hi", "--file", "file:1"},
		Files: map[string]policy.File{"file:1": file},
	})
	want := policy.Operation{
		Channel: "imessage", Verb: policy.VerbSend, Command: "send", Default: true, Group: true,
		To: []policy.Peer{someone(t, "iMessage;+;chat700")}, Body: []policy.Text{"hi"}, Files: []policy.File{file}, Detail: Send{Service: "auto"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := New("").Classify(channel.Call{Argv: []string{"imsg", "send", "--to", "415 555 1212", "--text", "hi"}}); err == nil {
		t.Error("a number without + is read without a region")
	}
}

func TestLocal(t *testing.T) {
	c := New("US")
	tests := []struct {
		argv  []string
		start string // "": not answered here
	}{
		{[]string{"imsg", "--version"}, "0.9.0\n"},
		{[]string{"imsg", "send", "--to", "+15551234567", "--text", "-V"}, "0.9.0\n"},
		{[]string{"imsg", "send", "--to", "+15551234567", "--text", "-h"}, "imsg send\nSend a message (text and/or attachment)\n\nUsage:\n  imsg send [options]\n"},
		{[]string{"imsg", "send", "--", "--help"}, "imsg send\n"},
		{[]string{"imsg", "history", "--help"}, "imsg history\nShow recent messages for a chat\n"},
		{[]string{"imsg", "-h", "chats"}, "imsg chats\nList recent conversations\n"},
		{[]string{"imsg", "--json", "chats", "-h"}, "imsg 0.9.0\nSend and read iMessage / SMS from the terminal\n"},
		{[]string{"imsg", "nope", "--help"}, "imsg 0.9.0\n"},
		{[]string{"imsg", "poll", "send", "--help"}, "imsg 0.9.0\n"},
		{[]string{"imsg", "rpc", "--help"}, "imsg rpc\nRun JSON-RPC over stdin/stdout\n"},
		{[]string{"imsg"}, "imsg 0.9.0\n"},
		{nil, "imsg 0.9.0\n"},
		{[]string{"imsg", "chats"}, ""},
		{[]string{"imsg", "send", "--text", "--helpx"}, ""},
	}
	for _, tt := range tests {
		out, ok := c.Local(channel.Call{Argv: tt.argv})
		if ok != (tt.start != "") || !strings.HasPrefix(string(out.Stdout), tt.start) || out.Exit != 0 || len(out.Stderr) > 0 {
			t.Errorf("%q: %t, %+v", tt.argv, ok, out)
		}
		if !ok {
			continue
		}
		// Who forgot to ask here still runs nothing.
		var complaint *channel.UsageError
		if _, err := c.Classify(channel.Call{Argv: tt.argv}); !errors.As(err, &complaint) || cmp.Diff(complaint.Output, out) != "" {
			t.Errorf("%q: Classify says %v", tt.argv, err)
		}
	}
	if _, ok := c.Local(channel.Call{Method: "send"}); ok {
		t.Error("a method is answered as a command line")
	}
}

// TestParseIsLinear: a client decides how often an option comes, and must not
// decide how long the gateway copies.
func TestParseIsLinear(t *testing.T) {
	argv := []string{"imsg", "history", "--chat-id", "1"}
	for range 20000 {
		argv = append(argv, "--participants", "a")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := parse(argv); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d MiB were allocated for %d words", n>>20, len(argv))
	}
}
