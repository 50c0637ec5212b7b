package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/config"
	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// bench is a daemon in this process, on real sockets and real files. There is
// one uid here, which is the service user's and the client's at once; the
// tests with real users are in cmd/carapaced.
type bench struct {
	t      *testing.T
	dir    string
	opts   Options
	cancel context.CancelFunc
	done   chan error
}

const basic = `version: 1
clients: [tester]
channels:
  loopback:
    enabled: true
    outbound: {mode: allowlist, allow: [echo, friend]}
    inbound: {mode: allowlist, allow: [echo]}
`

func newBench(t *testing.T, yaml string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	for _, d := range []string{"state", "run"} {
		if err := os.Mkdir(filepath.Join(b.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.opts = Options{
		Config: filepath.Join(b.dir, "config.yaml"), State: filepath.Join(b.dir, "state"), Run: filepath.Join(b.dir, "run"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		read: func(path string) (*config.Config, error) {
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			return config.Parse(path, data)
		},
		clients: func([]string) map[uint32]string { return map[uint32]string{uint32(os.Geteuid()): "tester"} },
		trust:   []uint32{uint32(os.Geteuid())},
	}
	b.write(yaml)
	t.Cleanup(b.stop)
	return b
}

func (b *bench) write(yaml string) {
	b.t.Helper()
	if err := os.WriteFile(b.opts.Config, []byte(yaml), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) start() *bench {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel, b.done = cancel, make(chan error, 1)
	go func() { b.done <- Run(ctx, b.opts) }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c, err := b.dial("gateway.sock"); err == nil {
			c.Close()
			return b
		}
		select {
		case err := <-b.done:
			b.cancel = nil
			b.t.Fatalf("the daemon ended: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			b.t.Fatal("the daemon does not answer")
		}
	}
}

func (b *bench) stop() {
	if b.cancel == nil {
		return
	}
	b.cancel()
	b.cancel = nil
	select {
	case err := <-b.done:
		if err != nil {
			b.t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		b.t.Error("the daemon does not stop")
	}
}

func (b *bench) dial(name string) (*wire.Client, error) {
	return wire.Dial(context.Background(), wire.ClientOptions{Socket: filepath.Join(b.dir, "run", name), ServerUID: uint32(os.Geteuid())})
}

func (b *bench) ask(socket, method string, params, result any) error {
	b.t.Helper()
	c, err := b.dial(socket)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return c.Call(ctx, method, params, result)
}

func (b *bench) send(to, text string) error {
	b.t.Helper()
	return b.ask("gateway.sock", "channel.send", map[string]string{"channel": "loopback", "to": to, "text": text}, nil)
}

func (b *bench) records() []journal.Event {
	b.t.Helper()
	var page struct{ Records []journal.Event }
	if err := b.ask("admin.sock", "audit.show", map[string]int{"tail": 500}, &page); err != nil {
		b.t.Fatal(err)
	}
	return page.Records
}

func (b *bench) letters() []journal.Letter {
	b.t.Helper()
	var list struct{ Letters []journal.Letter }
	if err := b.ask("admin.sock", "queue.list", nil, &list); err != nil {
		b.t.Fatal(err)
	}
	return list.Letters
}

func wantCode(t *testing.T, err error, code int) *wire.Error {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error = %v, want code %d", err, code)
	}
	return e
}

func TestSendAndRefusal(t *testing.T) {
	b := newBench(t, basic).start()
	if err := b.send("echo", "hello"); err != nil {
		t.Fatal(err)
	}
	e := wantCode(t, b.send("stranger", "psst"), wire.CodeDenied)
	letters := b.letters()
	if len(letters) != 1 || letters[0].ID != e.Data.ID || letters[0].Peer != "stranger" || letters[0].Client != "tester" {
		t.Fatalf("letters = %+v, error = %+v", letters, e)
	}
	var shown journal.Letter
	if err := b.ask("admin.sock", "queue.show", map[string]string{"id": e.Data.ID[:6]}, &shown); err != nil || shown.Body != "psst" {
		t.Errorf("queue.show = %+v, %v", shown, err)
	}

	var kinds []string
	for _, r := range b.records() {
		kinds = append(kinds, string(r.Kind))
		if r.Kind == journal.KindIntent && (r.Verdict != "allow" || len(r.Peers) != 1 || r.Peers[0] != "echo" || r.Digest == "") {
			t.Errorf("intent = %+v", r)
		}
		if strings.Contains(r.Reason, "psst") {
			t.Errorf("a body is in the log: %+v", r)
		}
	}
	if got := strings.Join(kinds, " "); got != "start intent outcome refused" {
		t.Errorf("records = %s", got)
	}

	// Scripts find every key in every record (interface §9).
	var raw struct{ Records []map[string]any }
	if err := b.ask("admin.sock", "audit.show", map[string]int{"tail": 10}, &raw); err != nil {
		t.Fatal(err)
	}
	for _, r := range raw.Records {
		for _, key := range []string{"seq", "time", "kind", "id", "client_uid", "pid", "channel", "direction", "verb", "peers", "verdict", "rule", "reason", "digest"} {
			if _, ok := r[key]; !ok {
				t.Errorf("%v record without %q", r["kind"], key)
			}
		}
	}

	// What was refused is not told: no list, no pattern, no path.
	said, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"friend", "config.yaml", b.dir} {
		if strings.Contains(string(said), secret) {
			t.Errorf("the client was told %q: %s", secret, said)
		}
	}
}

// TestEveryAnswerJudged: what comes back is judged item by item, so a mailbox
// that the client may write to but not hear from stays closed.
func TestEveryAnswerJudged(t *testing.T) {
	b := newBench(t, basic).start()
	for _, to := range []string{"echo", "friend"} {
		if err := b.send(to, "to "+to); err != nil {
			t.Fatal(err)
		}
	}
	var history struct{ Messages []struct{ Peer, Text string } }
	if err := b.ask("gateway.sock", "channel.get_history", map[string]any{"channel": "loopback"}, &history); err != nil {
		t.Fatal(err)
	}
	if len(history.Messages) == 0 {
		t.Fatal("nothing was shown")
	}
	for _, m := range history.Messages {
		if m.Peer != "echo" {
			t.Errorf("shown: %+v", m)
		}
	}
	wantCode(t, b.ask("gateway.sock", "channel.get_history", map[string]any{"channel": "loopback", "peer": "friend"}, nil), wire.CodeDenied)
}

func TestLockHoldsAcrossRestart(t *testing.T) {
	b := newBench(t, basic).start()
	if err := b.ask("admin.sock", "lock", map[string]string{"reason": "on holiday"}, nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, b.send("echo", "x"), wire.CodeLocked)
	b.stop()
	b.start()
	e := wantCode(t, b.send("echo", "x"), wire.CodeLocked)
	if strings.Contains(e.Message, "holiday") {
		t.Errorf("the client was told the reason: %q", e.Message)
	}
	if err := b.ask("admin.sock", "unlock", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.send("echo", "x"); err != nil {
		t.Error(err)
	}
}

func TestRateSurvivesRestart(t *testing.T) {
	b := newBench(t, basic)
	b.write(strings.Replace(basic, "channels:", "rate:\n  per_peer: {requests: 2, per: 1h}\nchannels:", 1))
	b.start()
	for range 2 {
		if err := b.send("echo", "x"); err != nil {
			t.Fatal(err)
		}
	}
	e := wantCode(t, b.send("echo", "x"), wire.CodeRate)
	if e.Data == nil || e.Data.RetryAfterMS < 60_000 {
		t.Errorf("retry after = %+v", e.Data)
	}
	b.stop()
	b.start()
	wantCode(t, b.send("echo", "x"), wire.CodeRate)
	if err := b.send("friend", "x"); err != nil {
		t.Errorf("another peer: %v", err)
	}
}

func TestRateSurvivesRestartWithHashedPeers(t *testing.T) {
	b := newBench(t, strings.Replace(basic, "channels:", "audit: {hash_fields: [peers]}\nrate:\n  per_peer: {requests: 1, per: 1h}\nchannels:", 1)).start()
	if err := b.send("echo", "x"); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.records() {
		for _, p := range r.Peers {
			if p == "echo" {
				t.Error("the peer is in the log in clear")
			}
		}
	}
	b.stop()
	b.start()
	wantCode(t, b.send("echo", "x"), wire.CodeRate)
}

func TestWiderConfigurationNeedsAWord(t *testing.T) {
	b := newBench(t, basic).start()
	wider := strings.Replace(basic, "[echo, friend]", "[echo, friend, stranger]", 1)
	b.write(wider)
	e := wantCode(t, b.ask("admin.sock", "reload", nil, nil), wire.CodeCommand)
	if !strings.Contains(e.Message, "stranger") {
		t.Errorf("the owner is not told what is gained: %q", e.Message)
	}
	wantCode(t, b.send("stranger", "x"), wire.CodeDenied)

	b.stop()
	b.start() // at start too
	wantCode(t, b.send("stranger", "x"), wire.CodeDenied)
	var status struct {
		PolicyRefused string `json:"policy_refused"`
	}
	if err := b.ask("admin.sock", "status", nil, &status); err != nil || status.PolicyRefused == "" {
		t.Errorf("status = %+v, %v", status, err)
	}

	var done struct{ Gained []string }
	if err := b.ask("admin.sock", "reload", map[string]bool{"widen": true}, &done); err != nil || len(done.Gained) == 0 {
		t.Fatalf("reload --widen: %+v, %v", done, err)
	}
	if err := b.send("stranger", "x"); err != nil {
		t.Error(err)
	}
	b.write(basic) // narrower: taken at once
	if err := b.ask("admin.sock", "reload", nil, nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, b.send("stranger", "x"), wire.CodeDenied)
}

func TestBrokenConfiguration(t *testing.T) {
	b := newBench(t, basic+"  imessage: {enbled: true}\n")
	err := Run(context.Background(), b.opts)
	if err == nil || !strings.Contains(err.Error(), "config.yaml:8:") || !strings.Contains(err.Error(), "enbled") {
		t.Fatalf("start: %v", err)
	}
	b.write(basic)
	b.start()
	b.write("version: one\n")
	e := wantCode(t, b.ask("admin.sock", "reload", nil, nil), wire.CodeInvalidParams)
	if !strings.Contains(e.Message, "config.yaml:1:") {
		t.Errorf("reload: %q", e.Message)
	}
	if err := b.send("echo", "still here"); err != nil {
		t.Error(err)
	}
}

func TestRefusedStates(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(b *bench) error
	}{
		{"state readable by others", func(b *bench) error { return os.Chmod(b.opts.State, 0o755) }},
		{"run writable by the group", func(b *bench) error { return os.Chmod(b.opts.Run, 0o770) }},
		{"state is a link", func(b *bench) error {
			if err := os.Rename(b.opts.State, b.opts.State+"2"); err != nil {
				return err
			}
			return os.Symlink(b.opts.State+"2", b.opts.State)
		}},
		{"relative path", func(b *bench) error { b.opts.State = "state"; return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, basic)
			if err := c.prepare(b); err != nil {
				t.Fatal(err)
			}
			if err := Run(context.Background(), b.opts); err == nil {
				t.Error("it started")
			}
		})
	}
}

// TestNoIntentNoSend makes the log fail under the daemon: everything with an
// effect is refused, the daemon stays up and says so.
func TestNoIntentNoSend(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b := newBench(t, basic)
	d, err := open(ctx, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.audit.Close(); err != nil {
		t.Fatal(err)
	}
	who := wire.Identity{UID: uint32(os.Geteuid())}
	a := d.operate(ctx, who, "loopback", methodCall("send", `{"to":"echo","text":"never"}`))
	if a.refusal == nil || a.refusal.Code != wire.CodeUnavailable {
		t.Fatalf("answer = %+v", a)
	}
	a = d.operate(ctx, who, "loopback", methodCall("get_history", `{}`))
	if a.refusal == nil {
		t.Error("something was shown that could not be recorded")
	}
	entries, err := os.ReadDir(filepath.Join(b.opts.State, "loopback"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(b.opts.State, "loopback", e.Name()))
		if err == nil && strings.Contains(string(data), "never") {
			t.Error("a message left without an intent")
		}
	}
}

// TestLetterFromRecord: a crash between the record of a refusal and its letter
// loses the words, never the fact.
func TestLetterFromRecord(t *testing.T) {
	b := newBench(t, basic).start()
	id := wantCode(t, b.send("stranger", "x"), wire.CodeDenied).Data.ID
	b.stop()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		os.Remove(filepath.Join(b.opts.State, "outbox.db"+suffix))
	}
	b.start()
	letters := b.letters()
	if len(letters) != 1 || letters[0].ID != id || letters[0].Peer != "stranger" || letters[0].State != journal.StateRefused {
		t.Errorf("letters = %+v", letters)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	b := newBench(t, basic)
	ctx := context.Background()
	d, err := open(ctx, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	stranger := wire.Identity{UID: 54321}
	var refused int
	for range 1000 {
		if d.allowAttempt(stranger, "call") != nil {
			refused++
		}
	}
	if refused < 800 {
		t.Errorf("%d of 1000 attempts were turned away", refused)
	}
	d.noteAttempts()
	if err := d.audit.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	records, err := d.audit.Read(0, 100)
	if err != nil {
		t.Fatal(err)
	}
	last := records[len(records)-1]
	if last.Kind != journal.KindDropped || last.Count != refused {
		t.Errorf("last record = %+v, want %d dropped", last, refused)
	}
}

func TestUnknownThings(t *testing.T) {
	b := newBench(t, basic).start()
	for _, c := range []struct {
		method string
		params any
		code   int
	}{
		{"no.such", nil, wire.CodeMethodNotFound},
		{"lock", nil, wire.CodeMethodNotFound}, // the owner's, on another socket
		{"ping", map[string]int{"x": 1}, wire.CodeInvalidParams},
		{"call", map[string]any{"channel": "nope", "argv": []string{"x"}}, wire.CodeUnavailable},
		{"call", map[string]any{"channel": "loopback", "argv": []string{}}, wire.CodeInvalidParams},
		{"channel.send", map[string]any{"to": "echo", "text": "x"}, wire.CodeInvalidParams},
		{"channel.send", map[string]any{"channel": "loopback", "to": "echo", "text": "x", "cc": "y"}, wire.CodeInvalidParams},
		{"channel.send", map[string]any{"channel": "imessage", "to": "+15551234567", "text": "x"}, wire.CodeDenied},
	} {
		t.Run(c.method, func(t *testing.T) {
			wantCode(t, b.ask("gateway.sock", c.method, c.params, nil), c.code)
		})
	}
	if err := b.send("echo", "still here"); err != nil {
		t.Error(err)
	}
}

// TestManyAtOnce sends from many connections: every message is there once, and
// every one has its intent before its outcome.
func TestManyAtOnce(t *testing.T) {
	b := newBench(t, strings.Replace(basic, "channels:", `rate:
  global: {requests: 100000, per: 1s}
  default: {requests: 100000, per: 1s}
  per_peer: {requests: 100000, per: 1s}
  attempts: {requests: 100000, per: 1s, burst: 100000}
channels:`, 1)).start()
	const clients, each = 8, 25
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				if err := b.send("friend", "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	intents := map[string]bool{}
	var n int
	for _, r := range b.records() {
		switch r.Kind {
		case journal.KindIntent:
			intents[r.ID] = true
		case journal.KindOutcome:
			n++
			if !intents[r.ID] {
				t.Errorf("outcome %s without an intent before it", r.ID)
			}
		}
	}
	if n != clients*each {
		t.Errorf("%d outcomes, want %d", n, clients*each)
	}
}

func methodCall(method, params string) channel.Call {
	return channel.Call{Method: method, Params: json.RawMessage(params)}
}
