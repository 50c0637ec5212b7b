package imsgtest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// tool runs the stand-in as a test of another package does: by its path, with
// an empty environment.
func tool(t *testing.T, f Fixture) (path string, run func(stdin string, argv ...string) (string, int)) {
	t.Helper()
	path = Build(t)
	if f.Dir == "" {
		f.Dir = t.TempDir()
	}
	Feed(t, path, f)
	return path, func(stdin string, argv ...string) (string, int) {
		t.Helper()
		cmd := exec.Command(path, argv...)
		cmd.Env = []string{}
		cmd.Dir = "/"
		cmd.Stdin = strings.NewReader(stdin)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if _, failed := err.(*exec.ExitError); err != nil && !failed {
			t.Fatal(err)
		}
		if stderr.Len() > 0 {
			t.Errorf("%q writes on standard error: %s", argv, stderr.Bytes())
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
}

// TestCommandLine holds the stand-in to what the contract says of the real
// tool's command line.
func TestCommandLine(t *testing.T) {
	f := Sample()
	f.Dir = t.TempDir()
	_, run := tool(t, f)
	tests := []struct {
		argv string // separated by |
		out  string
		exit int
	}{
		{"--version", "0.9.0\n", 0},
		{"chats|--limit|1|--db|/x", "[1] Test Chat (+123) last=2026-05-16T15:40:34.123Z\n", 0},
		{"history|--chat-id|1", "2026-05-16T15:40:34.123Z [recv] +123: hello\n", 0},
		{"history|--chat-id|2|--limit|1", "2026-05-15T10:00:00.000Z [sent] +15550001111: yes\n", 0},
		{"history|--chat-id|x", "Missing required option: --chat-id\n", 1},
		{"history|--chat-id|1|--start|x", "Invalid ISO8601 date: x\n", 1},
		{"send|--to|+15551234567|--chat-id|1|--text|hi", "Invalid value for option: --to\n", 1},
		{"send|--to|+15551234567|--text|hi|--service|fax", "Invalid service: fax\n", 1},
		{"send|--text|hi", "Missing required option: --to\n", 1},
		{"send|--to|+15551234567", "Missing required option: --text or file\n", 1},
		{"send|--to|+15551234567|--text=hi", "Unknown option --text=hi\n", 1},
		{"send|--to|+15551234567|--text|--json", "Missing value for option --text\n", 1},
		{"send|--to|Jane|--text|hi", "Invalid chat target: Multiple contacts match \"Jane\":\n  Jane Doe: +15550001111\n  Jane Roe: +15550002222\nSpecify a phone number or email instead.\n", 1},
		{"send|--chat-id|99|--text|hi", "Invalid chat target: Unknown chat id 99\n", 1},
		{"send|--to|+15551234567|--file|/no/such", "AppleScript failed: Attachment not found at /no/such\n", 1},
		{"nope", "Unknown subcommand 'nope' for command 'imsg'\n", 1},
	}
	for _, tt := range tests {
		if out, exit := run("", strings.Split(tt.argv, "|")...); out != tt.out || exit != tt.exit {
			t.Errorf("imsg %s\ngot  %q, %d\nwant %q, %d", tt.argv, out, exit, tt.out, tt.exit)
		}
	}
	if sent := SentIn(t, f.Dir); len(sent) > 0 {
		t.Fatalf("a refused send was sent: %+v", sent)
	}
	// The traps of the real tool: the last word wins, a contact's name is
	// looked up, a chat that looks like a person is one.
	for _, argv := range []string{"--to|+15550000001|--to|(415) 555-1212", "--to|solo", "--chat-id|1", "--chat-id|3", "--chat-identifier|+1555|--chat-guid|iMessage;+;chat700"} {
		if out, exit := run("", strings.Split("send|"+argv+"|--text|hi|--json", "|")...); out != "{\"status\":\"sent\"}\n" || exit != 0 {
			t.Errorf("send %s: %q, %d", argv, out, exit)
		}
	}
	var reached []string
	for _, s := range SentIn(t, f.Dir) {
		if s.Text != "hi" || s.PID == 0 || s.UID != os.Getuid() || len(s.Env) != 0 || len(s.Argv) == 0 {
			t.Errorf("a line without what happened: %+v", s)
		}
		reached = append(reached, s.Buddy+s.Chat)
	}
	if want := []string{"+14155551212", "solo@family.example", "+123", "iMessage;+;chat700", "+1555"}; !reflect.DeepEqual(reached, want) {
		t.Errorf("reached %q, not %q", reached, want)
	}
}

// TestRPC holds it to what the contract says of `imsg rpc`.
func TestRPC(t *testing.T) {
	f := Sample()
	f.Dir = t.TempDir()
	_, run := tool(t, f)
	tests := []struct{ in, out string }{
		{`{"jsonrpc":"2.0","id":8,"method":"send","params":{"chat_id":1,"to":"+15551234567","text":"hi"}}`,
			`{"jsonrpc":"2.0","id":8,"error":{"code":-32602,"message":"Invalid params","data":"use to or chat_*; not both"}}`},
		{`{"jsonrpc":"2.0","id":9,"method":"send","params":{"chat_id":999,"text":"hi"}}`,
			`{"jsonrpc":"2.0","id":9,"error":{"code":-32602,"message":"Invalid params","data":"unknown chat_id 999"}}`},
		{`{"jsonrpc":"2.0","id":6,"method":"send","params":{"to":"+15551234567","text":"hi","service":"fax"}}`,
			`{"jsonrpc":"2.0","id":6,"error":{"code":-32602,"message":"Invalid params","data":"invalid service"}}`},
		{`{"jsonrpc":"2.0","id":4,"method":"send","params":{"to":"+15551234567"}}`,
			`{"jsonrpc":"2.0","id":4,"error":{"code":-32602,"message":"Invalid params","data":"text or file is required"}}`},
		{`{"jsonrpc":"2.0","id":"3b","method":"send","params":{"chat_id":"1","text":"yo"}}`,
			`{"jsonrpc":"2.0","id":"3b","result":{"ok":true,"transport":"applescript","id":1979,"guid":"8DF1B3D7-0001"}}`},
		{`{"jsonrpc":"2.0","method":"chats.list"}`, ``},
		{`{"jsonrpc":"2.0","method":"nope"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"Method not found","data":"nope"}}`},
		{`{"id":[1],"method":"watch.unsubscribe","params":{"subscription":7,"x":1}}`, `{"jsonrpc":"2.0","id":[1],"result":{"ok":true}}`},
		{``, ``},
		{`[]`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request","data":"request must be an object"}}`},
		{`{"jsonrpc":"1.0","id":5,"method":"send"}`, `{"jsonrpc":"2.0","id":5,"error":{"code":-32600,"message":"Invalid Request","data":"jsonrpc must be 2.0"}}`},
		{`{"id":1,"method":"messages.history","params":{"chat_id":3,"limit":0}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"messages":[{"id":4,"chat_id":3,"guid":"AAAA-4","sender":"+15550002222","sender_name":"Jane Roe","is_from_me":false,"text":"lunch?","created_at":"2026-05-14T10:00:00.000Z","attachments":[],"reactions":[],"chat_identifier":"chat700","chat_guid":"iMessage;+;chat700","chat_name":"Crew","participants":["+15550001111","+15550002222"],"is_group":true}]}}`},
		{`{"id":2,"method":"tapback","params":{}}`, `{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"Internal error","data":"imsg bridge not ready: run imsg launch"}}`},
	}
	var in strings.Builder
	var want []string
	for _, tt := range tests {
		in.WriteString(tt.in + "\n")
		if tt.out != "" {
			want = append(want, tt.out)
		}
	}
	out, exit := run(in.String(), "rpc", "--db", "/x")
	got := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if exit != 0 || len(got) != len(want) {
		t.Fatalf("exit %d, %d answers of %d:\n%s", exit, len(got), len(want), out)
	}
	for i := range want {
		var a, b any
		if json.Unmarshal([]byte(got[i]), &a) != nil || json.Unmarshal([]byte(want[i]), &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("answer %d\ngot  %s\nwant %s", i, got[i], want[i])
		}
	}
	if sent := SentIn(t, f.Dir); len(sent) != 1 || sent[0].Buddy != "+123" {
		t.Errorf("sent %+v", sent)
	}
}

// TestFaults shows that each fault is what it is called.
func TestFaults(t *testing.T) {
	f := Sample()
	f.Dir = t.TempDir()
	path, run := tool(t, f)
	const send = `{"jsonrpc":"2.0","id":1,"method":"send","params":{"to":"+15550001111","text":"x"}}` + "\n"
	tests := []struct {
		fault string
		exit  int
		out   string // its beginning
		sent  int
	}{
		{"", 0, `{"id":1,"jsonrpc":"2.0","result":`, 1},
		{"exit", 1, "", 0},
		{"nodb", 1, `{"error":{"code":-32603,"data":"authorization denied`, 0},
		{"crash", 134, "", 0},
		{"crash-after-send", 134, "", 1},
		{"huge 100000", 0, `{"jsonrpc":"2.0","id":1,"result":"xxxxxxxx`, 1},
		{"garbage", 0, "objc[77]", 1},
		{"wrong-id", 0, `{"id":987654321,`, 1},
		{"fail", 0, `{"error":{"code":-32603,"data":"AppleScript failed`, 0},
		{"slow 1", 0, `{"id":1,`, 1},
		{"once crash", 134, "", 0},
		{"-", 0, `{"id":1,`, 1}, // what happens once is over
	}
	for _, tt := range tests {
		before := len(SentIn(t, f.Dir))
		if tt.fault != "-" {
			Break(t, f.Dir, tt.fault)
		}
		out, exit := run(send, "rpc")
		if exit != tt.exit || !strings.HasPrefix(out, tt.out) || tt.out == "" && out != "" {
			t.Errorf("%q: exit %d, %.200q", tt.fault, exit, out)
		}
		if n := len(SentIn(t, f.Dir)) - before; n != tt.sent {
			t.Errorf("%q: sent %d", tt.fault, n)
		}
	}
	Break(t, f.Dir, "hang")
	cmd := exec.Command(path, "rpc")
	cmd.Stdin = strings.NewReader(send)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		t.Errorf("hang ends: %v", err)
	case <-time.After(300 * time.Millisecond):
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-done
	}
	if out.Len() > 0 {
		t.Errorf("hang answers %s", out.Bytes())
	}
	if _, err := os.Stat(filepath.Join(f.Dir, FaultFile)); err != nil {
		t.Error(err)
	}
}
