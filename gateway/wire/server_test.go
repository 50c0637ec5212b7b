package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the server answers to one line, and whether it goes on after it.
func TestLines(t *testing.T) {
	path := serve(t, &Server{})
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for _, test := range []struct {
		name, line string
		id         string
		code       int
		closes     bool
	}{
		{"plain", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "1", 0, false},
		{"string id", `{"jsonrpc":"2.0","id":"a\u0062","method":"ping"}`, `"a\u0062"`, 0, false},
		{"negative id", `{"id":-12,"method":"ping","jsonrpc":"2.0","params":{}}`, "-12", 0, false},
		{"carriage return", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r", "1", 0, false},
		{"depth 32", `{"jsonrpc":"2.0","id":1,"method":"echo","params":` + deep(31) + `}`, "1", 0, false},

		{"empty", ``, "null", CodeParse, false},
		{"not JSON", `hello`, "null", CodeParse, false},
		{"HTTP", `GET / HTTP/1.1`, "null", CodeParse, false},
		{"cut", `{"jsonrpc":"2.0","id":1,"method":"pi`, "null", CodeParse, false},
		{"two", `{"jsonrpc":"2.0","id":1,"method":"ping"} {"jsonrpc":"2.0","id":2,"method":"ping"}`, "null", CodeParse, false},
		{"UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\xffng\"}", "null", CodeParse, false},
		{"NUL", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\x00\"}", "null", CodeParse, false},
		{"byte order mark", "\ufeff{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", "null", CodeParse, false},
		{"lone surrogate", `{"jsonrpc":"2.0","id":1,"method":"\udead"}`, "null", CodeParse, false},

		{"batch", `[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, "null", CodeInvalidRequest, false},
		{"empty batch", `[]`, "null", CodeInvalidRequest, false},
		{"a string", `"ping"`, "null", CodeInvalidRequest, false},
		{"null", `null`, "null", CodeInvalidRequest, false},
		{"unknown member", `{"jsonrpc":"2.0","id":1,"method":"ping","extra":1}`, "1", CodeInvalidRequest, false},
		{"wrong case", `{"jsonrpc":"2.0","id":1,"Method":"ping"}`, "1", CodeInvalidRequest, false},
		{"an answer", `{"jsonrpc":"2.0","id":1,"result":1}`, "1", CodeInvalidRequest, false},
		{"duplicate id", `{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}`, "null", CodeInvalidRequest, false},
		{"duplicate method", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"echo"}`, "null", CodeInvalidRequest, false},
		{"duplicate in params", `{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":{"b":1,"b":2}}}`, "null", CodeInvalidRequest, false},
		{"duplicate by escape", `{"jsonrpc":"2.0","id":1,"method":"ping","m\u0065thod":"echo"}`, "null", CodeInvalidRequest, false},
		{"depth 33", `{"jsonrpc":"2.0","id":1,"method":"echo","params":` + deep(32) + `}`, "null", CodeInvalidRequest, false},
		{"very deep", strings.Repeat("[", 500000), "null", CodeInvalidRequest, false},
		{"no version", `{"id":1,"method":"ping"}`, "1", CodeInvalidRequest, false},
		{"version 1", `{"jsonrpc":"1.0","id":1,"method":"ping"}`, "1", CodeInvalidRequest, false},
		{"version as number", `{"jsonrpc":2.0,"id":1,"method":"ping"}`, "1", CodeInvalidRequest, false},
		{"no method", `{"jsonrpc":"2.0","id":1}`, "1", CodeInvalidRequest, false},
		{"empty method", `{"jsonrpc":"2.0","id":1,"method":""}`, "1", CodeInvalidRequest, false},
		{"method as number", `{"jsonrpc":"2.0","id":1,"method":1}`, "1", CodeInvalidRequest, false},
		{"long method", `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("m", 129) + `"}`, "1", CodeInvalidRequest, false},
		{"null id", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, "null", CodeInvalidRequest, false},
		{"fractional id", `{"jsonrpc":"2.0","id":1.0,"method":"ping"}`, "null", CodeInvalidRequest, false},
		{"exponent id", `{"jsonrpc":"2.0","id":1e3,"method":"ping"}`, "null", CodeInvalidRequest, false},
		{"object id", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, "null", CodeInvalidRequest, false},
		{"bool id", `{"jsonrpc":"2.0","id":true,"method":"ping"}`, "null", CodeInvalidRequest, false},
		{"long id", `{"jsonrpc":"2.0","id":` + strings.Repeat("1", 129) + `,"method":"ping"}`, "null", CodeInvalidRequest, false},

		{"list of params", `{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}`, "1", CodeInvalidParams, false},
		{"null params", `{"jsonrpc":"2.0","id":1,"method":"ping","params":null}`, "1", CodeInvalidParams, false},
		{"unknown method", `{"jsonrpc":"2.0","id":1,"method":"pong"}`, "1", CodeMethodNotFound, false},
		{"method in another case", `{"jsonrpc":"2.0","id":1,"method":"Ping"}`, "1", CodeMethodNotFound, false},
		{"files without a stage", `{"jsonrpc":"2.0","id":1,"method":"file.open","params":{"name":"a","size":1}}`, "1", CodeMethodNotFound, false},

		{"notification", `{"jsonrpc":"2.0","method":"ping"}`, "null", CodeInvalidRequest, true},
		{"too long", `{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`, "null", CodeInvalidRequest, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := rawDial(t, path)
			go io.WriteString(r, test.line+"\n") // the server may stop reading in the middle
			id, code, message := r.hear()
			if id != test.id || code != test.code {
				t.Fatalf("id %s, code %d (%s); want %s, %d", id, code, message, test.id, test.code)
			}
			if Escape(message) != message {
				t.Errorf("the message %q is not fit to be shown", message)
			}
			if test.closes {
				r.closed()
				return
			}
			r.say(`{"jsonrpc":"2.0","id":"next","method":"ping"}` + "\n")
			if id, code, _ := r.hear(); id != `"next"` || code != 0 {
				t.Fatalf("afterwards: id %s, code %d", id, code)
			}
		})
	}
}

// A line of exactly the bound is served; one byte more is not.
func TestLineBound(t *testing.T) {
	path := serve(t, &Server{Limits: Limits{MaxMessage: 4096}})
	line := func(n int) string {
		const frame = `{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":""}}`
		return frame[:len(frame)-3] + strings.Repeat("x", n-len(frame)) + frame[len(frame)-3:] + "\n"
	}
	r := rawDial(t, path)
	for range 3 { // the answer is shorter than the request
		r.say(line(4096))
		if _, code, m := r.hear(); code != 0 {
			t.Fatalf("%d %s", code, m)
		}
	}
	r.say(line(4097))
	if _, code, m := r.hear(); code != CodeInvalidRequest || !strings.Contains(m, "4096") {
		t.Fatalf("%d %s", code, m)
	}
	r.closed()

	r = rawDial(t, path) // without an end
	r.say(strings.Repeat("x", 5000))
	if _, code, _ := r.hear(); code != CodeInvalidRequest {
		t.Fatal(code)
	}
	r.closed()
}

func TestManyBadLines(t *testing.T) {
	path := serve(t, &Server{})
	r := rawDial(t, path)
	for range 3 {
		for range maxBadLines - 1 {
			r.say("x\n")
			if _, code, _ := r.hear(); code != CodeParse {
				t.Fatal(code)
			}
		}
		r.say(`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n")
		if _, code, _ := r.hear(); code != 0 {
			t.Fatal(code)
		}
	}
	r.say(strings.Repeat("x\n", maxBadLines))
	for range maxBadLines {
		r.hear()
	}
	r.closed()
}

// Lines come in any pieces.
func TestPieces(t *testing.T) {
	path := serve(t, &Server{})
	r := rawDial(t, path)
	var all strings.Builder
	for i := range 50 {
		fmt.Fprintf(&all, `{"jsonrpc":"2.0","id":%d,"method":"echo","params":{"a":"%s"}}`+"\n", i, strings.Repeat("é", i*50))
	}
	text := all.String()
	go func() {
		for i := 0; len(text) > 0; i++ {
			n := min(1+i*i%977, len(text))
			io.WriteString(r, text[:n])
			text = text[n:]
		}
	}()
	seen := map[string]bool{}
	for range 50 {
		id, code, _ := r.hear()
		if code != 0 || seen[id] {
			t.Fatal(id, code)
		}
		seen[id] = true
	}
}

func TestSlowLine(t *testing.T) {
	path := serve(t, &Server{Limits: Limits{LineTimeout: 200 * time.Millisecond}})
	t.Run("one byte at a time", func(t *testing.T) {
		r := rawDial(t, path)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				if _, err := r.Write([]byte(" ")); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		if _, code, m := r.hear(); code != CodeInvalidRequest || !strings.Contains(m, "200ms") {
			t.Fatalf("%d %s", code, m)
		}
		r.closed()
		<-ended
	})
	t.Run("the rest of a second line", func(t *testing.T) {
		r := rawDial(t, path)
		r.say(`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n{")
		if _, code, _ := r.hear(); code != 0 {
			t.Fatal(code)
		}
		if _, code, _ := r.hear(); code != CodeInvalidRequest {
			t.Fatal(code)
		}
		r.closed()
	})
	t.Run("silence between lines", func(t *testing.T) {
		r := rawDial(t, path)
		for range 3 {
			time.Sleep(400 * time.Millisecond)
			r.say(`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n")
			if _, code, _ := r.hear(); code != 0 {
				t.Fatal(code)
			}
		}
	})
}

// A server that is itself the one who waits does not hold it against a line.
func TestSlowLineBehindSlowRequests(t *testing.T) {
	release := make(chan struct{})
	path := serve(t, &Server{
		Limits: Limits{LineTimeout: 300 * time.Millisecond, MaxInFlight: 1},
		Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
			<-release
			return nil, nil
		}),
	})
	r := rawDial(t, path)
	r.say(`{"jsonrpc":"2.0","id":1,"method":"x"}` + "\n" + `{"jsonrpc":"2.0","id":2,"method":"x"}` + "\n" + `{"jsonrpc":"2.0",`)
	time.Sleep(600 * time.Millisecond)
	close(release)
	r.say(`"id":3,"method":"x"}` + "\n")
	for i := range 3 {
		if id, code, m := r.hear(); code != 0 {
			t.Fatalf("answer %d: %s %d %s", i, id, code, m)
		}
	}
}

func TestPassedDescriptors(t *testing.T) {
	path := serve(t, &Server{})
	open := func() int {
		entries, err := os.ReadDir("/dev/fd")
		if err != nil {
			t.Skip("cannot count descriptors: ", err)
		}
		return len(entries)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, n := range []int{1, 100} {
		r := rawDial(t, path)
		r.say(`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n")
		r.hear()
		before := open()
		fds := make([]int, n)
		for i := range fds {
			fds[i] = int(null.Fd())
		}
		if _, _, err := r.WriteMsgUnix([]byte(`{"jsonrpc":"2.0","id":2,"method":"ping"}`+"\n"), unix.UnixRights(fds...), nil); err != nil {
			t.Fatal(err)
		}
		r.closed()
		// Ours and the server's end of this connection are in the same process.
		if after := open(); after > before {
			t.Errorf("%d descriptors passed: %d open before, %d after", n, before, after)
		}
	}
	dialed(t, path)
}

func TestHandlerErrors(t *testing.T) {
	var log lockedBuffer
	path := serve(t, &Server{Log: slog.New(slog.NewTextHandler(&log, nil))})
	c := dialed(t, path)
	call := func(method string) *Error {
		t.Helper()
		e, ok := errors.AsType[*Error](c.Call(t.Context(), method, nil, nil))
		if !ok {
			t.Fatalf("%s: no *Error", method)
		}
		return e
	}
	if e := call("broken"); e.Code != CodeInternal || strings.Contains(e.Message, "secret") {
		t.Errorf("broken: %v", e)
	}
	if !strings.Contains(log.String(), "/secret/path") {
		t.Error("the log does not say what was wrong")
	}
	if e := call("panic"); e.Code != CodeInternal || strings.Contains(e.Message, "as asked") {
		t.Errorf("panic: %v", e)
	}
	if s := log.String(); !strings.Contains(s, "as asked") || !strings.Contains(s, "helpers_test.go") {
		t.Errorf("the log does not say where the panic was: %s", s)
	}
	if e := call("refused"); e.Code != CodeDenied || e.Data == nil || e.Data.ID != "7f3c9a" || e.Hint() != "ask" {
		t.Errorf("refused: %v", e)
	}
	if e := call("huge"); e.Code != CodeInternal || e.Hint() == "" {
		t.Errorf("huge: %v", e)
	}
	var raw json.RawMessage
	if err := c.Call(t.Context(), "nothing", nil, &raw); err != nil || string(raw) != "{}" {
		t.Errorf("nothing: %s, %v", raw, err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestLimitOfConnections(t *testing.T) {
	for name, lim := range map[string]Limits{
		"of one user": {MaxPerUID: 3},
		"of all":      {MaxConnections: 3},
	} {
		t.Run(name, func(t *testing.T) {
			path := serve(t, &Server{Limits: lim})
			var there []*Client
			for range 3 {
				c := dialed(t, path)
				if err := c.Call(t.Context(), "ping", nil, nil); err != nil {
					t.Fatal(err)
				}
				there = append(there, c)
			}
			for range 5 {
				err := dialed(t, path).Call(t.Context(), "ping", nil, nil)
				if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeUnavailable || e.Hint() == "" || ExitCode(err) != ExitUnavailable {
					t.Fatalf("one too many: %v", err)
				}
			}
			for _, c := range there {
				if err := c.Call(t.Context(), "ping", nil, nil); err != nil {
					t.Fatal(err)
				}
			}
			there[0].Close()
			eventually(t, func() bool {
				return dialed(t, path).Call(t.Context(), "ping", nil, nil) == nil
			})
		})
	}
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

func TestAdmitAndAllow(t *testing.T) {
	var asked lockedBuffer
	var admit atomic.Bool
	path := serve(t, &Server{
		Admit: func(id Identity) error {
			if !admit.Load() {
				return errors.New("no such client")
			}
			return nil
		},
		Allow: func(id Identity, method string) error {
			if int(id.UID) != os.Geteuid() || id.PID != int32(os.Getpid()) {
				return fmt.Errorf("who is %v?", id)
			}
			fmt.Fprintln(&asked, method)
			if method == "file.open" || method == "echo" {
				return &Error{Code: CodeCommand, Message: "not you"}
			}
			return nil
		},
		Stage: newStage(t, Limits{}),
	})
	err := dialed(t, path).Call(t.Context(), "ping", nil, nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeCommand || strings.Contains(e.Message, "no such client") {
		t.Fatalf("not admitted: %v", err)
	}
	admit.Store(true)
	c := dialed(t, path)
	if err := c.Call(t.Context(), "ping", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), "echo", nil, nil); ExitCode(err) != ExitNotPermitted {
		t.Fatal(err)
	}
	if _, err := c.SendFile(t.Context(), "a", 1, strings.NewReader("a")); ExitCode(err) != ExitNotPermitted {
		t.Fatal(err)
	}
	if got := asked.String(); got != "ping\necho\nfile.open\n" {
		t.Errorf("asked for %q", got)
	}
}

func TestInFlight(t *testing.T) {
	var running, most atomic.Int32
	release := make(chan struct{})
	path := serve(t, &Server{
		Limits: Limits{MaxInFlight: 3},
		Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-release
			return nil, nil
		}),
	})
	r := rawDial(t, path)
	for i := range 20 {
		r.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"x"}`+"\n", i))
	}
	eventually(t, func() bool { return running.Load() == 3 })
	close(release)
	for range 20 {
		if _, code, m := r.hear(); code != 0 {
			t.Fatal(code, m)
		}
	}
	if most.Load() != 3 {
		t.Errorf("%d requests ran at once", most.Load())
	}
}

// TestInFlightOfOneUser: what one user has running is bounded over all its
// connections, and so is what it makes the gateway hold in memory.
func TestInFlightOfOneUser(t *testing.T) {
	var running, most atomic.Int32
	release := make(chan struct{})
	path := serve(t, &Server{
		Limits: Limits{MaxInFlight: 3, MaxRunPerUID: 4},
		Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-release
			return nil, nil
		}),
	})
	var all []*raw
	for range 5 {
		r := rawDial(t, path)
		for i := range 6 {
			r.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"x"}`+"\n", i))
		}
		all = append(all, r)
	}
	eventually(t, func() bool { return running.Load() == 4 })
	close(release)
	for _, r := range all {
		for range 6 {
			if _, code, m := r.hear(); code != 0 {
				t.Fatal(code, m)
			}
		}
	}
	if most.Load() != 4 {
		t.Errorf("%d requests ran at once", most.Load())
	}
}

func TestSameIDTwice(t *testing.T) {
	path := serve(t, &Server{})
	r := rawDial(t, path)
	r.say(`{"jsonrpc":"2.0","id":1,"method":"wait"}` + "\n" + `{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n")
	if id, code, _ := r.hear(); id != "null" || code != CodeInvalidRequest {
		t.Fatal(id, code)
	}
}

// The loss of a connection cancels what it asked for, also while the server
// does not read it.
func TestLossCancels(t *testing.T) {
	for _, requests := range []int{1, 5} {
		var running atomic.Int32
		path := serve(t, &Server{
			Limits: Limits{MaxInFlight: 2},
			Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
				running.Add(1)
				defer running.Add(-1)
				<-ctx.Done()
				return nil, ctx.Err()
			}),
		})
		r := rawDial(t, path)
		for i := range requests {
			r.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"x"}`+"\n", i))
		}
		eventually(t, func() bool { return int(running.Load()) == min(requests, 2) })
		r.Close()
		eventually(t, func() bool { return running.Load() == 0 })
	}
}

// What nobody waits for any more is not started.
func TestNotStartedWhenGone(t *testing.T) {
	var started atomic.Int32
	hold := make(chan struct{})
	path := serve(t, &Server{
		Allow: func(_ Identity, method string) error {
			if method == "first" { // holds up the reading
				<-hold
			}
			return nil
		},
		Handler: HandlerFunc(func(_ context.Context, _ *Conn, r *Request) (any, error) {
			if r.Method == "second" {
				started.Add(1)
			}
			return nil, nil
		}),
	})
	r := rawDial(t, path)
	r.say(`{"jsonrpc":"2.0","id":1,"method":"first"}` + "\n" + `{"jsonrpc":"2.0","id":2,"method":"second"}` + "\n")
	r.Close()
	close(hold)
	dialed(t, path).Call(t.Context(), "ping", nil, nil)
	time.Sleep(50 * time.Millisecond)
	if started.Load() != 0 {
		t.Error("a request was started for nobody")
	}
}

// A client that has said everything may close its writing half.
func TestHalfClosed(t *testing.T) {
	path := serve(t, &Server{Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(300 * time.Millisecond):
			return nil, nil
		}
	})})
	r := rawDial(t, path)
	r.say(`{"jsonrpc":"2.0","id":1,"method":"x"}` + "\n")
	r.CloseWrite()
	if _, code, m := r.hear(); code != 0 {
		t.Fatal(code, m)
	}
	r.closed()
}

// A client that does not read is given up, and costs one line of memory.
func TestSlowReader(t *testing.T) {
	ended := make(chan error, 1)
	path := serve(t, &Server{
		Limits: Limits{WriteTimeout: 200 * time.Millisecond},
		Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
			if r.Method == "ping" {
				return nil, nil
			}
			for {
				if err := c.Notify("noise", map[string]string{"x": strings.Repeat("x", 64<<10)}); err != nil {
					ended <- err
					return nil, err
				}
			}
		}),
	})
	r := rawDial(t, path)
	r.say(`{"jsonrpc":"2.0","id":1,"method":"noise"}` + "\n")
	if err := dialed(t, path).Call(t.Context(), "ping", nil, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the server writes for ever")
	}
}

func TestNotifyTooLong(t *testing.T) {
	path := serve(t, &Server{Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
		return map[string]bool{"refused": c.Notify("x", strings.Repeat("x", 2<<20)) != nil}, nil
	})})
	var got struct{ Refused bool }
	if err := dialed(t, path).Call(t.Context(), "x", nil, &got); err != nil || !got.Refused {
		t.Fatal(got, err)
	}
}

// Running requests are answered when the server is told to end, those that
// take too long are cancelled, and Serve waits for both.
func TestShutdown(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l, err := Listen(path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{}, 2)
	var cancelled atomic.Bool
	s := &Server{Limits: Limits{Drain: 500 * time.Millisecond}, Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
		started <- struct{}{}
		if r.Method == "short" {
			time.Sleep(100 * time.Millisecond)
			return nil, ctx.Err()
		}
		<-ctx.Done()
		cancelled.Store(true)
		return nil, ctx.Err()
	})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	idle := rawDial(t, path)
	short, long := rawDial(t, path), rawDial(t, path)
	short.say(`{"jsonrpc":"2.0","id":1,"method":"short"}` + "\n")
	long.say(`{"jsonrpc":"2.0","id":1,"method":"long"}` + "\n")
	<-started
	<-started
	cancel()
	if _, code, m := short.hear(); code != 0 {
		t.Errorf("the running request: %d %s", code, m)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Serve does not return")
	}
	if !cancelled.Load() {
		t.Error("Serve returned before the long request had ended")
	}
	idle.closed()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// A handler that ignores its context cannot hold up the end for ever.
func TestShutdownBounded(t *testing.T) {
	l, err := Listen(filepath.Join(shortDir(t), "s"), 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	started, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	s := &Server{Limits: Limits{Drain: 50 * time.Millisecond}, Handler: HandlerFunc(func(context.Context, *Conn, *Request) (any, error) {
		close(started)
		<-release
		return nil, nil
	})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	rawDial(t, l.Path()).say(`{"jsonrpc":"2.0","id":1,"method":"x"}` + "\n")
	<-started
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("Serve does not say that a request is still running")
		}
	case <-time.After(patience):
		t.Fatal("Serve does not return")
	}
}

// When descriptors run out, connections wait and are then served.
func TestOutOfDescriptors(t *testing.T) {
	out := helper(t, "descriptors", nil)
	if strings.TrimSpace(out) != "served" {
		t.Errorf("got %q", out)
	}
}

func descriptorsHelper() error {
	dir, err := os.MkdirTemp("", "cw")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := Listen(filepath.Join(dir, "s"), 0o600, -1)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- (&Server{Handler: HandlerFunc(echo)}).Serve(ctx, l) }()
	c, err := Dial(ctx, ClientOptions{Socket: l.Path(), ServerUID: uint32(os.Geteuid()), DialTimeout: patience})
	if err != nil {
		return err
	}
	if err := c.Call(ctx, "ping", nil, nil); err != nil {
		return err
	}
	eat, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// One descriptor is left: the client takes it, the server has none.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(eat) + 1, Max: uint64(eat) + 1}); err != nil {
		return err
	}
	unix.Close(eat)
	late, err := Dial(ctx, ClientOptions{Socket: l.Path(), ServerUID: uint32(os.Geteuid()), DialTimeout: patience})
	if err != nil {
		return fmt.Errorf("late: %w", err)
	}
	answered := make(chan error, 1)
	go func() { answered <- late.Call(ctx, "ping", nil, nil) }()
	select {
	case err := <-answered:
		return fmt.Errorf("answered without a descriptor: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := c.Call(ctx, "ping", nil, nil); err != nil { // others are unaffected
		return err
	}
	c.Close() // gives back two
	if err := <-answered; err != nil {
		return err
	}
	cancel()
	if err := <-done; err != nil {
		return err
	}
	fmt.Println("served")
	return nil
}
