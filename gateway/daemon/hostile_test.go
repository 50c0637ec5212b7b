package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// What stands here is tried by somebody who runs code as a client and has read
// the source.

const withIMessage = basic + `  imessage:
    enabled: true
    tool: /nonexistent/imsg
    outbound: {mode: allowlist, allow: ["+15550001111"], otherwise: hold}
    inbound: {mode: allowlist, allow: ["+15550001111"]}
`

// scripted is a tool that answers what a test says, and counts.
type scripted struct {
	mu     sync.Mutex
	asked  []string
	answer func(context.Context, channel.Command) (channel.Reply, error)
}

func (s *scripted) Run(ctx context.Context, c channel.Command) (channel.Reply, error) {
	s.mu.Lock()
	s.asked = append(s.asked, c.Request.Method)
	s.mu.Unlock()
	return s.answer(ctx, c)
}

func (s *scripted) sends() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.asked {
		if m == "send" {
			n++
		}
	}
	return n
}

func (*scripted) Status() channel.Status { return channel.Status{State: channel.StateReady} }
func (*scripted) Close() error           { return nil }

// opened is a daemon without sockets whose imessage channel has the given tool.
func opened(t *testing.T, yaml string, answer func(context.Context, channel.Command) (channel.Reply, error)) (*Daemon, *scripted, *bench) {
	t.Helper()
	b := newBench(t, yaml)
	d, err := open(context.Background(), b.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	tool := &scripted{answer: answer}
	d.mu.Lock()
	old := d.runners["imessage"]
	d.runners["imessage"] = tool
	d.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return d, tool, b
}

func (d *Daemon) events(t *testing.T) []journal.Event {
	t.Helper()
	if err := d.audit.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	all, err := d.audit.Read(0, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func me() wire.Identity { return wire.Identity{UID: uint32(os.Geteuid()), PID: 1} }

// TestToolsWordsAreJudged: whichever way a client asks, the tool's complaint
// tells it no path, no number and no name from the address book.
func TestToolsWordsAreJudged(t *testing.T) {
	const complaint = "Internal error: cannot open /Users/carapace/Library/Messages/chat.db for +15559998888 boss@corp.example\nJane Doe: +15557776666"
	d, _, _ := opened(t, withIMessage, func(context.Context, channel.Command) (channel.Reply, error) {
		return channel.Reply{}, &channel.ToolError{Code: -32603, Text: complaint}
	})
	for _, c := range []channel.Call{
		methodCall("send", `{"to":"+15550001111","text":"hi"}`),
		methodCall("get_history", `{"peer":"+15550001111"}`),
		methodCall("list_chats", `{}`),
		{Argv: []string{"imsg", "send", "--to", "+15550001111", "--text", "hi"}},
		{Argv: []string{"imsg", "history", "--chat-id", "1"}},
	} {
		a := d.operate(context.Background(), me(), "imessage", c)
		if a.refusal == nil || a.refusal.Code != wire.CodeTool {
			t.Fatalf("%v: %+v", c, a)
		}
		said := fmt.Sprint(errorOf(a.refusal), string(a.out.Stdout), string(a.out.Stderr))
		for _, secret := range []string{"/Users", "chat.db", "5559998888", "boss", "Jane", "5557776666"} {
			if strings.Contains(said, secret) {
				t.Errorf("%s %v: the client was told %q: %s", c.Method, c.Argv, secret, said)
			}
		}
	}
}

// TestStrangeAnswer: an answer that cannot be read is no success, and is not
// quoted.
func TestStrangeAnswer(t *testing.T) {
	d, _, b := opened(t, withIMessage, func(_ context.Context, c channel.Command) (channel.Reply, error) {
		if c.Request.Method == "send" {
			return channel.Reply{Data: []byte(`{"secretkey":1}`)}, nil
		}
		return channel.Reply{Data: []byte(`{"chats":[],"secretkey":1,"secretkey":2}`)}, nil
	})
	a := d.operate(context.Background(), me(), "imessage", methodCall("list_chats", `{}`))
	if a.refusal == nil || a.refusal.Code != wire.CodeTool || strings.Contains(a.refusal.Reason, "secretkey") {
		t.Errorf("list: %+v", a.refusal)
	}
	_ = b
	a = d.operate(context.Background(), me(), "imessage", methodCall("send", `{"to":"+15550001111","text":"hi"}`))
	if a.refusal == nil || a.refusal.Code != wire.CodeTool {
		t.Errorf("a send whose answer was not understood: %+v", a)
	}
}

// TestClientThatLeaves: whoever hangs up in the middle leaves no intent without
// an outcome behind, and no held letter without a record.
func TestClientThatLeaves(t *testing.T) {
	d, _, _ := opened(t, withIMessage, func(context.Context, channel.Command) (channel.Reply, error) {
		return channel.Reply{Data: []byte(`{"ok":true}`)}, nil
	})
	ctx, hangUp := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			d.operate(ctx, me(), "loopback", methodCall("send", fmt.Sprintf(`{"to":"echo","text":"x%d"}`, i)))
		})
		wg.Go(func() {
			d.operate(ctx, me(), "imessage", methodCall("send", fmt.Sprintf(`{"to":"+15550002222","text":"x%d"}`, i)))
		})
	}
	hangUp()
	wg.Wait()
	open, held := map[string]bool{}, map[string]bool{}
	for _, e := range d.events(t) {
		switch e.Kind {
		case journal.KindIntent:
			open[e.ID] = true
		case journal.KindOutcome, journal.KindInterrupted:
			delete(open, e.ID)
		case journal.KindHeld:
			held[e.ID] = true
		}
	}
	if len(open) > 0 {
		t.Errorf("%d intents have no outcome", len(open))
	}
	letters, err := d.outbox.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range letters {
		if l.State == journal.StateHeld && !held[l.ID] {
			t.Errorf("letter %s is held, and no record says so", l.ID)
		}
	}
	if n := d.count.unrecorded.Load(); n > 0 {
		t.Errorf("%d times the log was said not to take records", n)
	}
}

// TestLockStopsWhatWaits: once lock has returned, nothing leaves, whatever was
// permitted before and waits for the tool.
func TestLockStopsWhatWaits(t *testing.T) {
	asked, goOn := make(chan struct{}, 1), make(chan struct{})
	d, tool, _ := opened(t, withIMessage, func(_ context.Context, c channel.Command) (channel.Reply, error) {
		if c.Ready != nil {
			// The queue before the tool.
			asked <- struct{}{}
			<-goOn
			if err := c.Ready(); err != nil {
				return channel.Reply{}, fmt.Errorf("%w: %w", channel.ErrNotStarted, err)
			}
		}
		return channel.Reply{Data: []byte(`{"ok":true}`)}, nil
	})
	done := make(chan answer, 1)
	go func() {
		done <- d.operate(context.Background(), me(), "imessage", methodCall("send", `{"to":"+15550001111","text":"hi"}`))
	}()
	<-asked
	if err := d.lock.Set("stop"); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	a := <-done
	if a.refusal == nil || a.refusal.Code != wire.CodeLocked {
		t.Errorf("answer = %+v", a.refusal)
	}
	var last journal.Event
	for _, e := range d.events(t) {
		last = e
	}
	if last.Kind != journal.KindOutcome || last.Reason != "not started" {
		t.Errorf("last record = %+v", last)
	}
	_ = tool
}

// TestJudgedByTheNewestPolicy: what was asked for before a reload and is still
// on its way is judged by what is in force when it is judged.
func TestJudgedByTheNewestPolicy(t *testing.T) {
	var d *Daemon
	var b *bench
	narrow := strings.Replace(withIMessage, `allow: ["+15550001111"], otherwise: hold`, `allow: []`, 1)
	narrow = strings.Replace(narrow, `inbound: {mode: allowlist, allow: ["+15550001111"]}`, `inbound: {mode: allowlist, allow: []}`, 1)
	reload := func() {
		b.write(narrow)
		c, err := d.opts.read(d.opts.Config)
		if err != nil {
			t.Error(err)
			return
		}
		d.install(d.accept(c), "")
	}
	const chats = `{"chats":[{"id":2,"identifier":"+15550001111","guid":"iMessage;-;+15550001111","name":"","service":"iMessage","last_message_at":"2026-05-15T10:00:00.000Z","participants":["+15550001111"],"is_group":false}]}`
	var tool *scripted
	d, tool, b = opened(t, withIMessage, func(_ context.Context, c channel.Command) (channel.Reply, error) {
		if c.Request.Method == "chats.list" {
			reload()
			return channel.Reply{Data: []byte(chats)}, nil
		}
		return channel.Reply{Data: []byte(`{"ok":true}`)}, nil
	})
	a := d.operate(context.Background(), me(), "imessage", channel.Call{Argv: []string{"imsg", "send", "--chat-id", "2", "--text", "hi"}})
	if a.refusal == nil || a.refusal.Code != wire.CodeDenied || tool.sends() != 0 {
		t.Errorf("a send that was looked up before the reload: %+v, %d sent", a.refusal, tool.sends())
	}
	b.write(withIMessage)
	c, err := d.opts.read(d.opts.Config)
	if err != nil {
		t.Fatal(err)
	}
	d.install(d.accept(c), "")
	a = d.operate(context.Background(), me(), "imessage", methodCall("list_chats", `{}`))
	if a.refusal != nil {
		t.Fatal(errors.New(a.refusal.Reason))
	}
	if list, ok := a.out.Result.(channel.Conversations); !ok || len(list.Chats) != 0 {
		t.Errorf("shown after the reload: %+v", a.out.Result)
	}
}

// TestAdminPagesFit: however long a client makes what it is refused for, the
// owner can read the queue and the log.
func TestAdminPagesFit(t *testing.T) {
	yaml := withIMessage + `gateway: {max_message: 512KiB}
rate:
  attempts: {requests: 1000000, per: 1s, burst: 1000000}
content:
  patterns:
`
	for i := range 100 {
		yaml += fmt.Sprintf("    - {id: p%d, pattern: 'x', direction: outbound, action: block}\n", i)
	}
	b := newBench(t, yaml).start()
	c, err := b.dial("gateway.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	long := strings.Repeat("a", 60) + "@" + strings.Repeat(strings.Repeat("b", 60)+".", 3) + "example"
	held := wantCode(t, b.ask("gateway.sock", "channel.send", map[string]string{"channel": "imessage", "to": "+15550003333", "text": "a"}, nil), wire.CodeHeld)
	for i := range 900 {
		err := c.Call(context.Background(), "channel.send", map[string]string{"channel": "imessage", "to": fmt.Sprint(i, long), "text": "x"}, nil)
		wantCode(t, err, wire.CodeHeld)
	}
	// Written raw, it is half as long as what the gateway writes.
	raw := json.RawMessage(`{"channel":"imessage","to":"+15550002222","text":"` + strings.Repeat("\u2028", 150<<10) + `"}`)
	last := wantCode(t, b.ask("gateway.sock", "channel.send", raw, nil), wire.CodeHeld)
	letters := b.letters()
	if len(letters) == 0 || letters[0].ID != last.Data.ID {
		t.Errorf("%d letters, the newest is not the first", len(letters))
	}
	var few struct {
		Letters []journal.Letter
		Omitted int
	}
	if err := b.ask("admin.sock", "queue.list", map[string]int{"limit": 5}, &few); err != nil || len(few.Letters) != 5 || few.Letters[4].ID != held.Data.ID || few.Omitted == 0 {
		t.Errorf("what waits for a person was pushed out of sight: %+v, %v", few, err)
	}
	var shown journal.Letter
	if err := b.ask("admin.sock", "queue.show", map[string]string{"id": last.Data.ID}, &shown); err != nil {
		t.Error(err)
	} else if !strings.HasPrefix(shown.Body, "\u2028") || !strings.HasSuffix(shown.Body, "not shown]") {
		t.Errorf("%d bytes of the body are shown, ending in %q", len(shown.Body), shown.Body[max(0, len(shown.Body)-40):])
	}
	var page struct {
		Records []journal.Event
		Next    uint64
	}
	for _, params := range []map[string]int{{"tail": 500}, {"from": 0}, {"from": 100, "limit": 500}} {
		if err := b.ask("admin.sock", "audit.show", params, &page); err != nil {
			t.Errorf("%v: %v", params, err)
		} else if n := len(page.Records); n == 0 || page.Next != page.Records[n-1].Seq+1 {
			t.Errorf("%v: %d records, next %d", params, n, page.Next)
		}
		if params["tail"] > 0 && page.Next < 901 {
			t.Errorf("the tail ends at %d", page.Next)
		}
	}
}

// TestNoLongerAClient: a connection that outlives its user's place among the
// clients can do nothing more, not even leave files.
func TestNoLongerAClient(t *testing.T) {
	d, _, _ := opened(t, withIMessage, nil)
	gone := wire.Identity{UID: 54321}
	for _, m := range []string{"file.open", "file.data", "file.close"} {
		if err := d.allowAttempt(gone, m); err == nil {
			t.Errorf("%s by somebody who is no client", m)
		}
		if err := d.allowAttempt(me(), m); err != nil {
			t.Errorf("%s by a client: %v", m, err)
		}
	}
}

// TestServiceUserIsNoClient: the tools run as the service user, and what they
// are told by strangers must not write messages of its own.
func TestServiceUserIsNoClient(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody here")
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if got := clientsOf([]string{"root", "nobody"}, uint32(uid), log); len(got) != 0 {
		t.Errorf("clients = %v", got)
	}
	if got := clientsOf([]string{"nobody"}, uint32(uid)+1, log); len(got) != 1 {
		t.Errorf("clients = %v", got)
	}
}

// TestLockedTellsNoLists: what a person shut off tells nobody whom the owner
// writes to.
func TestLockedTellsNoLists(t *testing.T) {
	b := newBench(t, basic).start()
	if err := b.ask("admin.sock", "lock", nil, nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, b.ask("gateway.sock", "channel.peers", map[string]string{"channel": "loopback"}, nil), wire.CodeLocked)
	if err := b.ask("gateway.sock", "status", nil, nil); err != nil {
		t.Errorf("status: %v", err)
	}
}
