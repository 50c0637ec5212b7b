package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// crashed is a bench whose state is what b's is at this moment: what a kill
// would leave.
func crashed(t *testing.T, b *bench) *bench {
	t.Helper()
	config, err := os.ReadFile(b.opts.Config)
	if err != nil {
		t.Fatal(err)
	}
	next := newBench(t, string(config))
	if err := os.RemoveAll(next.opts.State); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(next.opts.State, os.DirFS(b.opts.State)); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(next.opts.State, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			return os.Chmod(path, 0o700)
		} else if err == nil {
			return os.Chmod(path, 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func started(t *testing.T, b *bench) *Daemon {
	t.Helper()
	d, err := open(context.Background(), b.opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func lettersOf(t *testing.T, d *Daemon) []journal.Letter {
	t.Helper()
	letters, err := d.outbox.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return letters
}

func sendTo(to, text string) channel.Call {
	return methodCall("send", fmt.Sprintf(`{"to":%q,"text":%q}`, to, text))
}

// TestPurgedStaysPurged: what a person deleted does not come back, neither
// after a stop nor after a kill.
func TestPurgedStaysPurged(t *testing.T) {
	b := newBench(t, basic)
	d := started(t, b)
	for i := range 5 {
		d.operate(context.Background(), me(), "loopback", sendTo("stranger", fmt.Sprint("no ", i)))
	}
	if n := len(lettersOf(t, d)); n != 5 {
		t.Fatalf("%d letters", n)
	}
	if _, err := d.purge(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	killed := crashed(t, b)
	d.close()
	for name, b := range map[string]*bench{"stopped": b, "killed": killed} {
		d := started(t, b)
		if n := len(lettersOf(t, d)); n != 0 {
			t.Errorf("%s: %d letters came back", name, n)
		}
		d.close()
	}
}

// TestRecoveryIsBounded: however much was refused before, a start looks only at
// what the outbox may have missed, and what made room for newer letters stays
// away.
func TestRecoveryIsBounded(t *testing.T) {
	b := newBench(t, basic+"dead_letters: {max: 3}\n")
	d := started(t, b)
	for i := range 40 {
		d.operate(context.Background(), me(), "loopback", sendTo("stranger", fmt.Sprint("no ", i)))
	}
	d.close()
	d = started(t, b)
	defer d.close()
	letters := lettersOf(t, d)
	if len(letters) != 3 {
		t.Fatalf("%d letters", len(letters))
	}
	for _, l := range letters {
		full, err := d.outbox.Get(context.Background(), l.ID)
		if err != nil || full.Body == "" {
			t.Errorf("a letter without its words took the place of one with them: %+v, %v", full, err)
		}
	}
}

// TestCrashAfterCrash: a start that fails before it made the missing letters
// does not keep the next one from making them.
func TestCrashAfterCrash(t *testing.T) {
	first := newBench(t, basic)
	d := started(t, first)
	d.operate(context.Background(), me(), "loopback", sendTo("stranger", "x"))
	b := crashed(t, first)
	d.close()
	path := filepath.Join(b.opts.State, "outbox.db")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		os.Remove(path + suffix)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := open(context.Background(), b.opts); err == nil {
		t.Fatal("it started without an outbox")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d = started(t, b)
	defer d.close()
	if letters := lettersOf(t, d); len(letters) != 1 || letters[0].Peer != "stranger" {
		t.Errorf("letters = %+v", letters)
	}
}

// TestKilledAtEveryStep kills the daemon before and after every step of a send
// and of a hold: what was begun is found, once, and nothing is sent again.
func TestKilledAtEveryStep(t *testing.T) {
	for _, hashed := range []bool{false, true} {
		yaml := withIMessage
		if hashed {
			yaml += "audit: {hash_fields: [peers]}\n"
		}
		t.Run(fmt.Sprintf("hashed=%t", hashed), func(t *testing.T) {
			var b, killed *bench
			var d *Daemon
			d, _, b = opened(t, yaml, func(context.Context, channel.Command) (channel.Reply, error) {
				// The tool has the command: the intent is durable.
				killed = crashed(t, b)
				return channel.Reply{Data: []byte(`{"ok":true}`)}, nil
			})
			d.operate(context.Background(), me(), "imessage", sendTo("+15550001111", "hi"))
			id := ""
			for _, e := range d.events(t) {
				if e.Kind == journal.KindIntent {
					id = e.ID
				}
			}
			for run := range 3 {
				next := started(t, killed)
				var peers [][]string
				n := 0
				for _, e := range next.events(t) {
					if e.ID == id {
						peers = append(peers, e.Peers)
						n++
					}
				}
				if n != 2 {
					t.Errorf("run %d: %d records of the operation, want its intent and its interruption", run, n)
				}
				if len(peers) == 2 && peers[1] != nil && strings.Join(peers[0], " ") != strings.Join(peers[1], " ") {
					t.Errorf("run %d: the records name different peers: %v", run, peers)
				}
				letters := lettersOf(t, next)
				if len(letters) != 1 || letters[0].ID != id || letters[0].State != journal.StateInterrupted || letters[0].Peer != strings.Join(peers[0], ", ") {
					t.Errorf("run %d: letters = %+v", run, letters)
				}
				// The next run finds what a kill leaves of this one.
				killed = crashed(t, killed)
				next.close()
			}

			a := d.operate(context.Background(), me(), "imessage", sendTo("+15550002222", "hold me"))
			if a.refusal == nil || a.refusal.Code != wire.CodeHeld {
				t.Fatalf("not held: %+v", a.refusal)
			}
			next := started(t, crashed(t, b))
			defer next.close()
			full, err := next.outbox.Get(context.Background(), a.refusal.ID)
			if err != nil || full.State != journal.StateHeld || full.Body != "hold me" {
				t.Errorf("held letter = %+v, %v", full, err)
			}
		})
	}
}
