package adapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

type params struct{ Token, Text string }

func req(method string, p params) channel.Command {
	return channel.Command{Request: &channel.Request{Method: method, Params: p}}
}

func residentWith(t testing.TB, s Spec) *Resident {
	t.Helper()
	r := NewResident(s)
	if err := r.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func resident(t testing.TB, words ...string) *Resident {
	t.Helper()
	return residentWith(t, spec(t, tool(t, append([]string{"server"}, words...)...)))
}

// echo asks for a token and checks that it is the one that comes back.
func echo(t testing.TB, r *Resident, token string) (pid int) {
	t.Helper()
	reply, err := r.Run(context.Background(), req("echo", params{Token: token}))
	if err != nil {
		t.Fatalf("echo: %v", err)
	}
	var got struct {
		PID   int
		Token string
	}
	if err := json.Unmarshal(reply.Data, &got); err != nil || got.Token != token {
		t.Fatalf("got %s, want %q", reply.Data, token)
	}
	return got.PID
}

func ready(t testing.TB, r *Resident) channel.Status {
	t.Helper()
	eventually(t, "ready", func() bool { return r.Status().State == channel.StateReady })
	return r.Status()
}

func TestResidentAnswers(t *testing.T) {
	r := resident(t)
	pid := echo(t, r, "first")
	if s := ready(t, r); s.PID != pid || s.Restarts != 0 || s.LastError != "" {
		t.Errorf("status %+v, pid %d", s, pid)
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() { echo(t, r, strconv.Itoa(i)) })
	}
	wg.Wait()
	if again := echo(t, r, "last"); again != pid {
		t.Errorf("another child: %d, then %d", pid, again)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	noChild(t, pid)
	if _, err := r.Run(t.Context(), req("echo", params{})); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("after Close: %v", err)
	}
	if s := r.Status(); s.State != channel.StateDown || s.PID != 0 {
		t.Errorf("after Close: %+v", s)
	}
}

// What one child says wrongly, everybody asked later must not suffer from.
func TestResidentMisbehaviour(t *testing.T) {
	cases := []struct {
		method string
		want   error  // nil: answered all the same
		why    string // part of the error
		stays  bool   // the same child goes on
	}{
		{"exit", channel.ErrUnknown, "code 3", false},
		{"answer-exit", nil, "", false},
		{"quiet", channel.ErrUnknown, "closed its output", false},
		{"garbage", channel.ErrUnknown, "no reply", false},
		{"wrong-id", channel.ErrUnknown, "nobody made", false},
		{"both", channel.ErrUnknown, "no reply", false},
		{"stray", nil, "", true},
		{"flood", nil, "", true},
		{"noise", nil, "", true},
		{"long", nil, "", true},
		{"slow", nil, "", true},
	}
	for _, c := range cases {
		t.Run(c.method, func(t *testing.T) {
			t.Parallel()
			r := resident(t)
			pid := echo(t, r, "before")
			_, err := r.Run(context.Background(), req(c.method, params{Token: "x"}))
			if !errors.Is(err, c.want) || c.want != nil && !strings.Contains(err.Error(), c.why) {
				t.Fatalf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "/") {
				t.Errorf("the error names a path: %v", err)
			}
			var after int
			eventually(t, "it answers again", func() bool {
				reply, err := r.Run(context.Background(), req("echo", params{Token: "after"}))
				var got struct{ PID int }
				_ = json.Unmarshal(reply.Data, &got)
				after = got.PID
				return err == nil
			})
			if (after == pid) != c.stays {
				t.Errorf("child %d, then %d", pid, after)
			}
			if !c.stays {
				noChild(t, pid)
				if s := r.Status(); s.Restarts != 1 {
					t.Errorf("status %+v", s)
				}
			}
		})
	}
}

func TestResidentDeadline(t *testing.T) {
	for _, method := range []string{"hang", "endless"} {
		t.Run(method, func(t *testing.T) {
			s := spec(t, tool(t, "server"))
			s.Timeout = time.Second
			r := residentWith(t, s)
			pid := ready(t, r).PID
			_, err := r.Run(context.Background(), req(method, params{}))
			if !errors.Is(err, channel.ErrUnknown) || !strings.Contains(err.Error(), "did not answer within 1s") {
				t.Fatalf("got %v", err)
			}
			noChild(t, pid)
			eventually(t, "a new child that answers", func() bool {
				_, err := r.Run(context.Background(), req("echo", params{}))
				st := r.Status()
				return err == nil && st.PID != 0 && st.PID != pid
			})
		})
	}
}

// A caller who leaves neither ends the child nor has his request repeated.
func TestResidentCallerLeaves(t *testing.T) {
	ledger := filepath.Join(folder(t), "ledger")
	r := resident(t, "ledger="+ledger)
	pid := echo(t, r, "before")
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, req("slow", params{Token: "written"}))
		first <- err
	}()
	eventually(t, "it was written", func() bool {
		b, _ := os.ReadFile(ledger)
		return bytes.Contains(b, []byte("written"))
	})
	second := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, req("echo", params{Token: "queued"}))
		second <- err
	}()
	eventually(t, "it waits", func() bool {
		r.queue.mu.Lock()
		defer r.queue.mu.Unlock()
		return len(r.queue.calls) == 1
	})
	cancel()
	if err := <-second; !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("queued: %v", err)
	}
	if err := <-first; !errors.Is(err, channel.ErrUnknown) {
		t.Errorf("written: %v", err)
	}
	if after := echo(t, r, "after"); after != pid {
		t.Errorf("child %d, then %d", pid, after)
	}
	if b, _ := os.ReadFile(ledger); string(b) != "before\nwritten\nafter\n" {
		t.Errorf("the tool saw %q", b)
	}
}

func TestResidentQueueIsBounded(t *testing.T) {
	r := resident(t)
	echo(t, r, "before")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, maxQueue+10)
	for range cap(errs) {
		wg.Go(func() {
			_, err := r.Run(ctx, req("hang", params{}))
			errs <- err
		})
	}
	var full error
	for range cap(errs) - maxQueue - inFlight {
		full = <-errs
		if !errors.Is(full, channel.ErrNotStarted) {
			t.Errorf("got %v", full)
		}
	}
	if full == nil || !strings.Contains(full.Error(), "too many") {
		t.Errorf("got %v", full)
	}
	cancel()
	wg.Wait()
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	if n := len(r.queue.calls); n != 0 {
		t.Errorf("%d requests wait for callers who left", n)
	}
}

func TestResidentToolError(t *testing.T) {
	s := spec(t, tool(t, "server"))
	r := residentWith(t, s)
	_, err := r.Run(t.Context(), req("fail", params{Text: "AppleScript failed: Attachment not found at " + s.Home + "/Library/x y/z"}))
	var tool *channel.ToolError
	if !errors.As(err, &tool) || tool.Code != -32603 || tool.Text != "Internal error: AppleScript failed: Attachment not found at [path]" {
		t.Errorf("got %v", err)
	}
	if errors.Is(err, channel.ErrUnknown) || errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("%v is the tool's own answer", err)
	}
	if _, err := r.Run(t.Context(), req("none", params{})); !errors.As(err, &tool) || tool.Code != -32601 {
		t.Errorf("got %v", err)
	}
}

func TestResidentGigabyteLine(t *testing.T) {
	s := spec(t, tool(t, "server"))
	s.MaxOutput = 4 << 20
	r := residentWith(t, s)
	echo(t, r, "before")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.Run(t.Context(), req("big", params{}))
	runtime.ReadMemStats(&after)
	if !errors.Is(err, channel.ErrUnknown) || !strings.Contains(err.Error(), "more than 4194304 bytes") {
		t.Fatalf("got %v", err)
	}
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 64<<20 {
		t.Errorf("%d MiB were allocated", grew>>20)
	}
	eventually(t, "it answers again", func() bool {
		_, err := r.Run(t.Context(), req("echo", params{}))
		return err == nil
	})
	if _, err := r.Run(t.Context(), req("echo", params{Text: strings.Repeat("x", 5<<20)})); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("a request past the bound: %v", err)
	}
}

func TestResidentSlowStart(t *testing.T) {
	s := spec(t, tool(t, "server", "sleep=500ms"))
	s.Probe = &channel.Request{Method: "echo"}
	r := residentWith(t, s)
	if st := r.Status(); st.State != channel.StateStarting {
		t.Errorf("status %+v", st)
	}
	echo(t, r, "early") // waits for the start
	if st := r.Status(); st.State != channel.StateReady {
		t.Errorf("status %+v", st)
	}
}

// A tool that answers, but cannot do its work, runs; a person can see why it
// does not work.
func TestResidentProbeFails(t *testing.T) {
	s := spec(t, tool(t, "server"))
	s.Probe = &channel.Request{Method: "fail", Params: params{Text: "no access to /Users/x/chat.db"}}
	r := residentWith(t, s)
	if st := ready(t, r); st.LastError != "the tool failed: Internal error: no access to [path]" {
		t.Errorf("status %+v", st)
	}
	s.Probe = &channel.Request{Method: "exit"}
	r = residentWith(t, s)
	eventually(t, "it is given up for a while", func() bool {
		st := r.Status()
		return st.State == channel.StateBackoff && st.Restarts >= 2
	})
	if st := r.Status(); st.LastError != "it ended with code 3: cannot open [path]" {
		t.Errorf("status %+v", st)
	}
}

func TestResidentMissingTool(t *testing.T) {
	path := tool(t, "server")
	s := spec(t, path)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	r := residentWith(t, s)
	eventually(t, "down", func() bool { return r.Status().State == channel.StateDown })
	if st := r.Status(); st.LastError != "the tool is not installed" || st.PID != 0 {
		t.Errorf("status %+v", st)
	}
	if _, err := r.Run(t.Context(), req("echo", params{})); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("got %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if st := ready(t, r); st.LastError != "" {
		t.Errorf("status %+v", st)
	}
	pid := echo(t, r, "there")

	// It is checked again before each start, and not only at the first.
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	eventually(t, "refused", func() bool { return strings.Contains(r.Status().LastError, "not trusted") })
	if _, err := r.Run(t.Context(), req("echo", params{})); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("got %v", err)
	}
}

func TestResidentSpec(t *testing.T) {
	r := NewResident(Spec{Name: "imessage", Tool: "imsg", Dir: "/", Home: "/"})
	if err := r.Start(t.Context()); err == nil {
		t.Error("a relative tool was taken")
	}
	if _, err := r.Run(t.Context(), req("echo", params{})); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("got %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	r = NewResident(spec(t, tool(t, "server")))
	if _, err := r.Run(t.Context(), req("echo", params{})); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("before Start: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(ctx); err == nil {
		t.Error("started twice")
	}
	if _, err := r.Run(t.Context(), channel.Command{Argv: []string{"imsg"}}); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("a one-shot command: %v", err)
	}
	pid := echo(t, r, "x")
	cancel() // the end of the context is the end of the child
	eventually(t, "gone", func() bool { return syscall.Kill(pid, 0) != nil })
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestResidentClose(t *testing.T) {
	for _, method := range []string{"slow", "hang", "deaf"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			r := resident(t)
			pid := echo(t, r, "before")
			done := make(chan error, 2)
			go func() {
				_, err := r.Run(context.Background(), req(method, params{}))
				done <- err
				if method == "deaf" { // more than a pipe holds
					_, err = r.Run(context.Background(), req("echo", params{Text: strings.Repeat("x", 1<<20)}))
				}
				done <- err
			}()
			if method == "deaf" {
				<-done
			}
			time.Sleep(100 * time.Millisecond)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			noChild(t, pid)
			switch err := <-done; {
			case method == "slow" && err != nil:
				t.Errorf("an answer that came in time was lost: %v", err)
			case method != "slow" && !errors.Is(err, channel.ErrUnknown):
				t.Errorf("got %v", err)
			}
		})
	}
}

// What a tool starts ends with it.
func TestResidentFamily(t *testing.T) {
	r := resident(t)
	reply, err := r.Run(t.Context(), req("family", params{}))
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(string(reply.Data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(t.Context(), req("exit", params{})); !errors.Is(err, channel.ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	eventually(t, "the grandchild is gone", func() bool { return !alive(grandchild) })
	echo(t, r, "after")
}

// A daemon that is killed leaves no child behind.
func TestNoOrphan(t *testing.T) {
	dir := folder(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The child ignores the end of its input: only the kernel can end it.
	lonely := filepath.Join(dir, "tool")
	script(t, lonely, "exec /bin/sleep 1000")
	daemon := exec.Command(self, childMark, "daemon", lonely, dir)
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Fatalf("no child %d", pid)
	}
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait()
	if runtime.GOOS != "linux" {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Skip("needs Linux: elsewhere a child that ignores the end of its input stays")
	}
	eventually(t, "the child is gone", func() bool { return !alive(pid) })
}

// The central promise: whatever the tool does, and whenever it dies, nothing is
// given to it twice, an answer means that it saw the request, and "not started"
// means that it did not.
func TestNeverTwice(t *testing.T) {
	ledger := filepath.Join(folder(t), "ledger")
	s := spec(t, tool(t, "server", "ledger="+ledger))
	s.Timeout = 2 * time.Second
	r := NewResident(s)
	r.pauses.b.InitialInterval, r.pauses.b.MaxInterval = time.Millisecond, 10*time.Millisecond
	r.pauses.b.Reset()
	if err := r.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	methods := []string{"echo", "echo", "exit", "echo", "garbage", "echo", "wrong-id", "answer-exit", "echo", "fail"}
	var mu sync.Mutex
	outcome := make(map[string]error)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 25 {
				token := fmt.Sprintf("%d-%d", w, i)
				wait := time.Minute
				if i%5 == 0 { // who leaves early, before or after his turn
					wait = time.Duration(1+i*17%60) * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(context.Background(), wait)
				_, err := r.Run(ctx, req(methods[(w*7+i)%len(methods)], params{Token: token}))
				cancel()
				mu.Lock()
				outcome[token] = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(ledger)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, token := range strings.Fields(string(b)) {
		seen[token]++
	}
	count := map[string]int{}
	for token, err := range outcome {
		var tool *channel.ToolError
		switch n := seen[token]; {
		case n > 1:
			t.Errorf("%s was given to the tool %d times", token, n)
		case (err == nil || errors.As(err, &tool)) && n != 1:
			t.Errorf("%s was answered and not seen", token)
		case errors.Is(err, channel.ErrNotStarted) && n != 0:
			t.Errorf("%s is said not to have started: %v", token, err)
		}
		switch {
		case err == nil || errors.As(err, &tool):
			count["answered"]++
		case errors.Is(err, channel.ErrNotStarted):
			count["not started"]++
		case errors.Is(err, channel.ErrUnknown):
			count["unknown"]++
		default:
			t.Errorf("%s: an outcome without a name: %v", token, err)
		}
	}
	if count["answered"] == 0 || count["unknown"] == 0 {
		t.Errorf("the test tested nothing: %v", count)
	}
	t.Logf("%v", count)
}

func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPauses()
		began := time.Now()
		var last time.Duration
		for i := range 1000 { // some eight hours
			d := p.next(0)
			if d < firstPause*8/10 || d > longPause {
				t.Fatalf("pause %d is %s", i, d)
			}
			if i == 0 && d > firstPause*12/10 {
				t.Errorf("the first pause is %s", d)
			}
			if i > 10 && d < longPause*8/10 {
				t.Errorf("pause %d is only %s", i, d)
			}
			time.Sleep(d)
			last = d
		}
		if time.Since(began) < time.Hour {
			t.Errorf("only %s went by", time.Since(began))
		}
		if d := p.next(healthy - 1); d < longPause*8/10 {
			t.Errorf("after a short life %s, before it %s", d, last)
		}
		if d := p.next(healthy); d > firstPause*12/10 {
			t.Errorf("after a healthy minute %s", d)
		}
	})
}

// A tool that is missing for a day is looked for all day, and not all the time.
func TestResidentWaitsForEver(t *testing.T) {
	dir := folder(t)
	synctest.Test(t, func(t *testing.T) {
		starts := &counter{}
		r := NewResident(Spec{Name: "imessage", Tool: dir + "/none", Dir: dir, Home: dir, TrustOwner: []uint32{0, uint32(os.Getuid())}, Log: slog.New(starts)})
		if err := r.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		n := starts.n
		if n < 2880 || n > 3700 {
			t.Errorf("%d starts were tried in a day", n)
		}
		if s := r.Status(); s.State != channel.StateDown || s.Restarts != n-1 && s.Restarts != n {
			t.Errorf("status %+v after %d starts", s, n)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// counter counts the warnings, one of which is said after each start.
type counter struct{ n int }

func (*counter) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (c *counter) Handle(context.Context, slog.Record) error  { c.n++; return nil }
func (c *counter) WithAttrs([]slog.Attr) slog.Handler         { return c }
func (c *counter) WithGroup(string) slog.Handler              { return c }

func BenchmarkResident(b *testing.B) {
	r := resident(b)
	echo(b, r, "warm")
	for b.Loop() {
		echo(b, r, "x")
	}
}
