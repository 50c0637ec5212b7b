package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child is what the test binary does when a kill test runs it: a job and a
// path. It says on stdout what was acknowledged, one id a line.
func child(job string) {
	what, path, _ := strings.Cut(job, ":")
	var err error
	switch what {
	case "audit":
		err = childAudit(path)
	case "outbox":
		err = childOutbox(path)
	case "limit":
		err = childLimit(path)
	default:
		err = fmt.Errorf("no job %q", what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// forever runs f in several goroutines until one fails.
func forever(f func(id string) error) error {
	errs := make(chan error)
	for range 8 {
		go func() {
			for {
				id := NewID()
				if err := f(id); err != nil {
					errs <- err
					return
				}
				// One write, so that a kill cannot tear it from what it says.
				os.Stdout.WriteString(id + "\n")
			}
		}()
	}
	return <-errs
}

func childAudit(dir string) error {
	a, _, err := Open(dir, Options{Checkpoint: 20})
	if err != nil {
		return err
	}
	return forever(func(id string) error {
		return errors.Join(a.Note(Event{Kind: KindRead}), a.Record(context.Background(), event(id)))
	})
}

func childOutbox(path string) error {
	o, err := OpenOutbox(path, OutboxOptions{KeepContent: true, Max: 1000000})
	if err != nil {
		return err
	}
	return forever(func(id string) error {
		if err := o.Add(context.Background(), Letter{ID: id, State: StateHeld, Body: id}); err != nil {
			return err
		}
		if id[0] >= '8' {
			return nil
		}
		return o.SetState(context.Background(), id, StateHeld, StateRejected)
	})
}

// childLimit fills its file up to a limit, as if the disk were full, and goes
// on when the limit is raised.
func childLimit(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	a, _, err := Open(dir, Options{Checkpoint: 20})
	if err != nil {
		return err
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	limit := was
	limit.Cur = 64 << 10
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	n, refused := 0, 0
	for range 400 {
		id := NewID()
		switch err := a.Record(context.Background(), event(id)); {
		case err == nil:
			n++
			fmt.Println(id)
		case errors.Is(err, unix.EFBIG):
			refused++
		default:
			return err
		}
	}
	if err := a.Err(); n == 0 || refused == 0 || err != nil {
		return fmt.Errorf("%d taken, %d refused, %w", n, refused, err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	id := NewID()
	if err := a.Record(context.Background(), event(id)); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	fmt.Println(id)
	return a.Close()
}

// runChild runs a job, kills it after a while (0: lets it end), and returns
// what it acknowledged.
func runChild(t *testing.T, job string, after time.Duration) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CARAPACE_JOURNAL_CHILD="+job)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	go func() {
		<-started
		if after > 0 {
			time.Sleep(after)
			cmd.Process.Kill()
		}
	}()
	var acked []string
	in := bufio.NewScanner(out)
	for in.Scan() {
		if acked = append(acked, in.Text()); len(acked) == 1 {
			close(started)
		}
	}
	if len(acked) == 0 {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal("the child acknowledged nothing")
	}
	err = cmd.Wait()
	if after == 0 && err != nil {
		t.Fatalf("child: %v", err)
	}
	var exit *exec.ExitError
	if after > 0 && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
		t.Fatalf("child was not killed: %v", err)
	}
	return acked
}

// A daemon that is killed at any moment loses nothing that it acknowledged.
func TestKillAudit(t *testing.T) {
	dir := logDir(t)
	var acked []string
	for range 6 {
		acked = append(acked, runChild(t, "audit:"+dir, rand.N(80*time.Millisecond)+1)...)
		must(t, dir)
	}
	a, rec := openLog(t, dir, Options{}, nil)
	there := map[string]bool{}
	for _, e := range rec.Unfinished {
		there[e.ID] = true
	}
	for _, id := range acked {
		if !there[id] {
			t.Errorf("%s was acknowledged and is gone", id)
		}
	}
	t.Logf("%d acknowledged, %d intents, %d records", len(acked), len(rec.Unfinished), rec.Records)
	a.Close()
	must(t, dir)
}

func TestKillOutbox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	var acked []string
	for range 4 {
		acked = append(acked, runChild(t, "outbox:"+path, rand.N(80*time.Millisecond)+1)...)
	}
	o := openOutbox(t, path, OutboxOptions{KeepContent: true})
	for _, id := range acked {
		l, err := o.Get(ctx(t), id)
		want := StateHeld
		if id[0] < '8' {
			want = StateRejected
		}
		if err != nil || l.Body != id || l.State != want {
			t.Errorf("%s: %+v, %v", id, l, err)
		}
	}
	t.Logf("%d acknowledged", len(acked))
}

func TestFileSizeLimit(t *testing.T) {
	dir := logDir(t)
	acked := runChild(t, "limit:"+dir, 0)
	_, rec := openLog(t, dir, Options{}, nil)
	if len(rec.Unfinished) != len(acked) {
		t.Errorf("%d acknowledged, %d there", len(acked), len(rec.Unfinished))
	}
}
