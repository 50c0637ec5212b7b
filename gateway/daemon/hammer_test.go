package daemon

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// TestHammer sends, reads, transfers files, hangs up, reloads, locks and purges
// all at once. Afterwards every message that is there had one intent, no intent
// is open, and nothing went to somebody who was never permitted.
func TestHammer(t *testing.T) {
	free := strings.Replace(basic, "channels:", `rate:
  global: {requests: 1000000, per: 1s}
  default: {requests: 1000000, per: 1s}
  per_peer: {requests: 1000000, per: 1s}
  attempts: {requests: 1000000, per: 1s, burst: 1000000}
channels:`, 1)
	narrow := strings.Replace(free, "[echo, friend]", "[echo]", 1)
	b := newBench(t, free).start()
	const each = 40
	var wg sync.WaitGroup
	client := func(socket string, work func(c *wire.Client, i int) error) {
		wg.Go(func() {
			for i := range each {
				c, err := b.dial(socket)
				if err != nil {
					t.Error(err)
					return
				}
				var e *wire.Error
				if err := work(c, i); err != nil && !errors.As(err, &e) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				} else if e != nil && e.Code == wire.CodeInternal {
					t.Error(e)
				}
				c.Close()
			}
		})
	}
	send := func(ctx context.Context, c *wire.Client, to, text string) error {
		return c.Call(ctx, "channel.send", map[string]string{"channel": "loopback", "to": to, "text": text}, nil)
	}
	for n := range 4 {
		client("gateway.sock", func(c *wire.Client, i int) error {
			return send(context.Background(), c, "friend", fmt.Sprint(n, "-", i))
		})
	}
	client("gateway.sock", func(c *wire.Client, i int) error {
		return send(context.Background(), c, "stranger", fmt.Sprint("s", i%7))
	})
	client("gateway.sock", func(c *wire.Client, i int) error { // hangs up in the middle
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return send(ctx, c, "friend", fmt.Sprint("gone-", i))
	})
	client("gateway.sock", func(c *wire.Client, i int) error {
		return c.Call(context.Background(), "channel.get_history", map[string]any{"channel": "loopback"}, nil)
	})
	client("gateway.sock", func(c *wire.Client, i int) error {
		_, err := c.SendFile(context.Background(), "a.txt", 5, strings.NewReader("hello"))
		return err
	})
	client("admin.sock", func(c *wire.Client, i int) error {
		if i%2 == 0 {
			b.write(narrow)
		} else {
			b.write(free)
		}
		return c.Call(context.Background(), "reload", map[string]bool{"widen": true}, nil)
	})
	client("admin.sock", func(c *wire.Client, i int) error {
		if i%4 == 0 {
			return errors.Join(c.Call(context.Background(), "lock", map[string]string{"reason": "x"}, nil), c.Call(context.Background(), "unlock", nil, nil))
		}
		if i%9 == 0 {
			return c.Call(context.Background(), "queue.purge", nil, nil)
		}
		return c.Call(context.Background(), "status", nil, nil)
	})
	wg.Wait()
	b.write(free)
	if err := b.ask("admin.sock", "reload", map[string]bool{"widen": true}, nil); err != nil {
		t.Fatal(err)
	}
	b.stop()

	d := started(t, b)
	defer d.close()
	intents, done := map[string]int{}, map[string]bool{}
	sent := 0
	for _, e := range d.events(t) {
		switch e.Kind {
		case journal.KindIntent:
			intents[e.ID]++
			if len(e.Peers) != 1 || e.Peers[0] != "friend" {
				t.Errorf("an intent to %v", e.Peers)
			}
		case journal.KindOutcome:
			if intents[e.ID] != 1 || done[e.ID] {
				t.Errorf("outcome %s: %d intents, seen before: %t", e.ID, intents[e.ID], done[e.ID])
			}
			done[e.ID] = true
			if e.Reason == "done" {
				sent++
			}
		case journal.KindInterrupted:
			t.Errorf("interrupted: %+v", e)
		}
	}
	if len(done) != len(intents) {
		t.Errorf("%d intents, %d outcomes", len(intents), len(done))
	}
	mailbox := readMailbox(t, b, "friend")
	if len(mailbox) != sent || sent == 0 {
		t.Errorf("%d messages in the mailbox, %d sent by the log", len(mailbox), sent)
	}
	for text, n := range mailbox {
		if n != 1 {
			t.Errorf("%q is there %d times", text, n)
		}
	}
}

// readMailbox returns how often each text is in a mailbox, from the disk.
func readMailbox(t *testing.T, b *bench, name string) map[string]int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(b.opts.State, "loopback", "mailbox-"+hex.EncodeToString([]byte(name))+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]int{}
	for line := range strings.Lines(string(data)) {
		var m struct{ Text string }
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		texts[m.Text]++
	}
	return texts
}
