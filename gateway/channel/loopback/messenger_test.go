package loopback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

func ask(m *Messenger, method string, params any) (channel.Reply, error) {
	return m.Run(context.Background(), request(method, params))
}

// texts returns what is in a mailbox, oldest first.
func texts(t *testing.T, m *Messenger, owner string) []string {
	t.Helper()
	reply, err := ask(m, "history", historyRequest{Peer: owner, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var h channel.History
	if err := json.Unmarshal(reply.Data, &h); err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, m := range h.Messages {
		all = append(all, m.Text)
	}
	return all
}

func send(t *testing.T, m *Messenger, to, text string) {
	t.Helper()
	if _, err := ask(m, "send", sendRequest{To: to, Text: text}); err != nil {
		t.Fatal(err)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	send(t, m, "bob", "one")
	send(t, m, "bob", "two")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(m, "send", sendRequest{To: "bob", Text: "late"}); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("after Close: %v", err)
	}
	// A crash in the middle of a line, and a damaged line before it.
	file := filepath.Join(dir, fileOf("bob"))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	if err := os.WriteFile(file, []byte(first+"\n{{damaged\n"+rest+`{"seq":9,"id":"x","peer":"bob","te`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"notes.txt", "mailbox-zz.jsonl", "mailbox-2e2e.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, other), []byte("not ours"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err = Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	send(t, m, "bob", "three")
	if got := fmt.Sprint(texts(t, m, "bob")); got != "[one two three]" {
		t.Errorf("after a crash: %s", got)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "notes.txt")); err != nil || string(data) != "not ours" {
		t.Errorf("a foreign file was touched: %q, %v", data, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of a mailbox: %v, %v", info.Mode(), err)
	}
}

func TestBounds(t *testing.T) {
	dir := t.TempDir()
	m, err := open(dir, bounds{record: 300, mailbox: 1200, messages: 6, boxes: 3, total: 2500, answer: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range 40 {
		send(t, m, "bob", fmt.Sprint("message ", i))
		got := texts(t, m, "bob")
		if len(got) == 0 || len(got) > 6 || got[len(got)-1] != fmt.Sprint("message ", i) {
			t.Fatalf("after message %d: %q", i, got)
		}
	}
	for i := range 40 {
		send(t, m, fmt.Sprint("peer-", i%7), strings.Repeat("x", i*4+1))
		total := 0
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			if total += int(info.Size()); info.Size() > 1200 {
				t.Fatalf("a mailbox has %d bytes", info.Size())
			}
		}
		if len(files) > 3 || total > 2500 {
			t.Fatalf("%d files, %d bytes", len(files), total)
		}
		if got := texts(t, m, fmt.Sprint("peer-", i%7)); got[len(got)-1] != strings.Repeat("x", i*4+1) {
			t.Fatalf("message %d is not there", i)
		}
	}
	var tool *channel.ToolError
	if _, err := ask(m, "send", sendRequest{To: "bob", Text: strings.Repeat("y", 300)}); !errors.As(err, &tool) {
		t.Errorf("a message past the bound: %v", err)
	}
	if m.Status().State != channel.StateReady {
		t.Errorf("status after a refusal: %+v", m.Status())
	}
}

func TestStrictRequests(t *testing.T) {
	m, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var tool *channel.ToolError
	for _, r := range []channel.Request{
		{Method: "send", Params: map[string]any{"to": "../x", "text": "t"}},
		{Method: "send", Params: map[string]any{"to": "bob", "text": "t", "extra": 1}},
		{Method: "send", Params: map[string]any{"to": "bob"}},
		{Method: "history", Params: map[string]any{}},
		{Method: "delete", Params: map[string]any{}},
	} {
		if reply, err := m.Run(t.Context(), channel.Command{Request: &r}); !errors.As(err, &tool) {
			t.Errorf("%+v: %s, %v", r, reply.Data, err)
		}
	}
	if _, err := m.Run(t.Context(), channel.Command{Argv: []string{"ls"}}); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("a run: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Run(ctx, request("send", sendRequest{To: "bob", Text: "t"})); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("cancelled: %v", err)
	}
	if got := texts(t, m, "bob"); len(got) != 0 {
		t.Errorf("a refused request left %q", got)
	}
}

// TestConcurrent shows that everything that is sent at once is there once.
func TestConcurrent(t *testing.T) {
	m, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := ask(m, "send", sendRequest{To: fmt.Sprint("box-", w%3), Text: fmt.Sprint(w, "/", i)}); err != nil {
					t.Error(err)
				}
				if _, err := ask(m, "history", historyRequest{Limit: 5}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for i := range 3 {
		for _, text := range texts(t, m, fmt.Sprint("box-", i)) {
			seen[text]++
		}
	}
	if len(seen) != writers*each {
		t.Errorf("%d messages of %d", len(seen), writers*each)
	}
	for text, n := range seen {
		if n != 1 {
			t.Errorf("%q is there %d times", text, n)
		}
	}
}

// TestCannotWrite shows that a mailbox that cannot be written is a clear error
// and that reading goes on.
func TestCannotWrite(t *testing.T) {
	dir := t.TempDir()
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	send(t, m, "bob", "before")
	// A folder where the mailbox should be fails for root too.
	if err := os.Mkdir(filepath.Join(dir, fileOf("eve")), 0o700); err != nil {
		t.Fatal(err)
	}
	var tool *channel.ToolError
	if _, err := ask(m, "send", sendRequest{To: "eve", Text: "t"}); !errors.As(err, &tool) {
		t.Errorf("a mailbox that cannot be opened: %v", err)
	}
	if got := fmt.Sprint(texts(t, m, "bob")); got != "[before]" {
		t.Errorf("other mailboxes: %s", got)
	}
	send(t, m, "bob", "after")
}
