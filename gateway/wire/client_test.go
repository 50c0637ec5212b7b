package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pingHelper says ping to WIRE_TEST_SOCKET, behind which it expects
// WIRE_TEST_UID, and prints how that ended.
func pingHelper() error {
	uid, err := strconv.ParseUint(os.Getenv("WIRE_TEST_UID"), 10, 32)
	if err != nil {
		return err
	}
	c, err := Dial(context.Background(), ClientOptions{Socket: os.Getenv("WIRE_TEST_SOCKET"), ServerUID: uint32(uid), DialTimeout: patience})
	if err == nil {
		err = c.Call(context.Background(), "ping", nil, nil)
	}
	hint := ""
	if u, ok := errors.AsType[*UnreachableError](err); ok {
		hint = u.Hint()
	}
	fmt.Println(ExitCode(err), err, hint)
	return nil
}

func TestCall(t *testing.T) {
	path := serve(t, &Server{})
	c := dialed(t, path)
	for _, want := range []string{"", "plain", "<b>&\u2028 \x00 \"\\ é 😀", strings.Repeat("long ", 100000)} {
		var got map[string]string
		if err := c.Call(t.Context(), "echo", map[string]string{"a": want}, &got); err != nil || got["a"] != want {
			t.Fatalf("echo of %.40q: %.40q, %v", want, got["a"], err)
		}
	}
	var raw json.RawMessage
	if err := c.Call(t.Context(), "echo", json.RawMessage("{\n\"a\": 1\n}"), &raw); err != nil || string(raw) != `{"a":1}` {
		t.Fatalf("%s, %v", raw, err)
	}
	if err := c.Call(t.Context(), "echo", func() {}, nil); err == nil {
		t.Error("a function was encoded")
	}
	var wrong struct{ Pong int }
	if err := c.Call(t.Context(), "ping", nil, &wrong); err == nil || ExitCode(err) != ExitFailed {
		t.Errorf("an answer that does not fit: %v", err)
	}
	if err := c.Call(t.Context(), "ping", nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestConcurrentCalls(t *testing.T) {
	for _, notified := range []bool{false, true} {
		path := serve(t, &Server{Limits: Limits{MaxInFlight: 4}})
		c := dialed(t, path)
		if notified {
			c.OnNotify(func(string, json.RawMessage) {})
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for j := range 50 {
					want := fmt.Sprint(i, "/", j)
					var got map[string]string
					if err := c.Call(t.Context(), "echo", map[string]string{"a": want}, &got); err != nil || got["a"] != want {
						t.Errorf("%s: %v, %v", want, got, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// Notifications come in order and before the answer of the call that caused
// them; later ones come without a call.
func TestNotifications(t *testing.T) {
	later := make(chan struct{})
	path := serve(t, &Server{Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
		if r.Method == "later" {
			go func() {
				<-later
				c.Notify("late", nil)
				c.Notify("last", nil)
			}()
			return nil, nil
		}
		return echo(ctx, c, r)
	})})
	c := dialed(t, path)
	var mu sync.Mutex
	var seen []string
	c.OnNotify(func(method string, params json.RawMessage) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, method+string(params))
	})
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
	if err := c.Call(t.Context(), "talk", nil, nil); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 100 {
		t.Fatalf("%d notifications before the answer", n)
	}
	for i := range 100 {
		if want := fmt.Sprintf(`said{"n":%d}`, i); seen[i] != want {
			t.Fatalf("notification %d is %s", i, seen[i])
		}
	}
	if err := c.Call(t.Context(), "later", nil, nil); err != nil {
		t.Fatal(err)
	}
	close(later)
	eventually(t, func() bool { return count() == 102 })
	if err := c.Call(t.Context(), "ping", nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestCallCancelled(t *testing.T) {
	path := serve(t, &Server{})
	c := dialed(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, "wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), "ping", nil, nil); err != nil {
		t.Fatalf("the connection did not outlive one call: %v", err)
	}
	// A call that waits for another one to read takes over from it.
	ctx, cancel = context.WithCancel(t.Context())
	leader := make(chan error, 1)
	go func() { leader <- c.Call(ctx, "wait", nil, nil) }()
	time.Sleep(20 * time.Millisecond)
	follower := make(chan error, 1)
	go func() {
		var all json.RawMessage
		follower <- c.Call(t.Context(), "echo", map[string]string{"a": strings.Repeat("x", 100000)}, &all)
	}()
	time.Sleep(20 * time.Millisecond)
	cancel()
	if err := <-leader; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case err := <-follower:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("nobody reads")
	}
}

func TestCloseWakesCalls(t *testing.T) {
	path := serve(t, &Server{})
	c := dialed(t, path)
	ended := make(chan error, 3)
	for range 3 {
		go func() { ended <- c.Call(context.Background(), "wait", nil, nil) }()
	}
	time.Sleep(50 * time.Millisecond)
	c.Close()
	for range 3 {
		select {
		case err := <-ended:
			if ExitCode(err) != ExitUnavailable {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("a call waits for ever")
		}
	}
	if err := c.Call(t.Context(), "ping", nil, nil); err == nil {
		t.Error("a closed client works")
	}
}

// fake is a server that does what it is told with each connection.
func fake(t *testing.T, with func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go with(c)
		}
	}()
	return path
}

func TestSilentServer(t *testing.T) {
	path := fake(t, func(net.Conn) {})
	for name, params := range map[string]any{"short": nil, "long": strings.Repeat("x", 4<<20)} {
		t.Run(name, func(t *testing.T) {
			c, err := Dial(t.Context(), ClientOptions{Socket: path, ServerUID: uint32(os.Geteuid()), DialTimeout: 300 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			time.Sleep(400 * time.Millisecond) // a person thinks; the time counts from the first call
			start := time.Now()
			err = c.Call(t.Context(), "x", params, nil)
			u, ok := errors.AsType[*UnreachableError](err)
			if !ok || !errors.Is(err, ErrSilent) || u.Exit() != ExitUnavailable || u.Hint() == "" {
				t.Fatal(err)
			}
			if d := time.Since(start); d < 200*time.Millisecond || d > patience {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// A server that is busy with what was asked answers the ping.
func TestBusyServer(t *testing.T) {
	release := make(chan struct{})
	path := serve(t, &Server{Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
		if r.Method == "ping" {
			time.AfterFunc(800*time.Millisecond, func() { close(release) })
			return nil, nil
		}
		<-release
		return nil, nil
	})})
	c, err := Dial(t.Context(), ClientOptions{Socket: path, ServerUID: uint32(os.Geteuid()), DialTimeout: 600 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Call(t.Context(), "slow", nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestFullQueue(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var there []net.Conn
	defer func() {
		for _, c := range there {
			c.Close()
		}
	}()
	for range 10000 {
		c, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		there = append(there, c)
	}
	if len(there) == 10000 {
		t.Skip("the queue of this system has no end")
	}
	_, err = Dial(t.Context(), ClientOptions{Socket: path, ServerUID: uint32(os.Geteuid()), DialTimeout: 100 * time.Millisecond})
	if ExitCode(err) != ExitUnavailable {
		t.Errorf("%v", err)
	}
}

func TestBadServers(t *testing.T) {
	for name, test := range map[string]struct {
		says string
		want error
	}{
		"hangs up":            {"", ErrClosed},
		"hangs up in a line":  {`{"jsonrpc":"2.0","id":1,"res`, ErrClosed},
		"speaks no JSON":      {"HTTP/1.1 400 Bad Request\r\n\r\n", nil},
		"answers nothing":     {`{"jsonrpc":"2.0","id":"a","result":1}` + "\n", nil},
		"answers other calls": {`{"jsonrpc":"2.0","id":99,"result":1}` + "\n", ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			path := fake(t, func(c net.Conn) {
				c.Read(make([]byte, 100))
				c.Write([]byte(test.says))
				c.Close()
			})
			err := dialed(t, path).Call(t.Context(), "x", nil, nil)
			if ExitCode(err) != ExitUnavailable || test.want != nil && !errors.Is(err, test.want) {
				t.Fatal(err)
			}
		})
	}
}

// What the gateway says before it closes is told, also when the request could
// not be written any more.
func TestLastWords(t *testing.T) {
	path := fake(t, func(c net.Conn) {
		c.Write([]byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32004,"message":"too many connections"}}` + "\n"))
		c.Close()
	})
	c := dialed(t, path)
	time.Sleep(100 * time.Millisecond)
	for range 2 {
		err := c.Call(t.Context(), "x", map[string]string{"a": strings.Repeat("x", 1<<20)}, nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeUnavailable {
			t.Fatal(err)
		}
	}
}

func TestWrongServer(t *testing.T) {
	var said atomic.Bool
	path := fake(t, func(c net.Conn) {
		n, _ := c.Read(make([]byte, 1))
		said.Store(n > 0)
	})
	_, err := Dial(t.Context(), ClientOptions{Socket: path, ServerUID: uint32(os.Geteuid()) + 1})
	u, ok := errors.AsType[*UnreachableError](err)
	if !ok || !errors.Is(err, ErrWrongServer) || u.Exit() != ExitUnavailable || !strings.Contains(u.Hint(), "nothing was sent") {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if said.Load() {
		t.Error("something was said to the wrong server")
	}
}

// A server of another user, and one that a user may not reach.
func TestOtherUsers(t *testing.T) {
	as := stranger(t)
	path := serve(t, &Server{})
	dir := filepath.Dir(path)
	ping := func(uid string) string {
		return helper(t, "ping", as, "WIRE_TEST_SOCKET="+path, "WIRE_TEST_UID="+uid)
	}
	if out := ping("0"); !strings.HasPrefix(out, "77 ") || !strings.Contains(out, "carapace-clients") {
		t.Errorf("a folder that is closed: %s", out)
	}
	os.Chmod(dir, 0o755)
	if out := ping("0"); !strings.HasPrefix(out, "77 ") {
		t.Errorf("a socket that is closed: %s", out)
	}
	os.Chmod(path, 0o666)
	if out := ping("0"); !strings.HasPrefix(out, "0 ") {
		t.Errorf("an open socket: %s", out)
	}
	if out := ping("54321"); !strings.HasPrefix(out, "69 ") || !strings.Contains(out, "nothing was sent") {
		t.Errorf("a server that should be the stranger's: %s", out)
	}
}

func TestUnreachable(t *testing.T) {
	dir := shortDir(t)
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for name, path := range map[string]string{"nothing there": filepath.Join(dir, "none"), "left over": stale} {
		_, err := Dial(t.Context(), ClientOptions{Socket: path, ServerUID: uint32(os.Geteuid())})
		u, ok := errors.AsType[*UnreachableError](err)
		if !ok || u.Exit() != ExitUnavailable || u.Socket != path || !strings.Contains(u.Hint(), "not running") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Facts that cannot be read are another matter than a socket that is closed.
func TestUnreadableFacts(t *testing.T) {
	u, ok := errors.AsType[*UnreachableError](notInstalled(&os.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}))
	if !ok || u.Exit() != ExitUnavailable || strings.Contains(u.Hint(), "carapace-clients") {
		t.Errorf("%v: exit %d, hint %s", u, u.Exit(), u.Hint())
	}
	u = &UnreachableError{Err: os.NewSyscallError("connect", syscall.EACCES)}
	if u.Exit() != ExitNotPermitted || !strings.Contains(u.Hint(), "carapace-clients") {
		t.Errorf("%v: exit %d, hint %s", u, u.Exit(), u.Hint())
	}
}

func TestExitCodes(t *testing.T) {
	for code, want := range map[int]int{
		CodeParse: ExitBug, CodeInvalidRequest: ExitBug, CodeMethodNotFound: ExitBug, CodeInternal: ExitBug,
		CodeInvalidParams: ExitUsage, CodeDenied: ExitNotPermitted, CodeRate: ExitTryLater, CodeContent: ExitNotPermitted,
		CodeUnavailable: ExitUnavailable, CodeTool: ExitFailed, CodeHeld: ExitNotPermitted, CodeCommand: ExitNotPermitted,
		CodeLocked: ExitNotPermitted, -1: ExitFailed,
	} {
		if got := ExitCode(fmt.Errorf("wrapped: %w", &Error{Code: code})); got != want {
			t.Errorf("%d: exit %d, want %d", code, got, want)
		}
	}
	if ExitCode(nil) != 0 || ExitCode(errors.New("x")) != ExitFailed {
		t.Error("nil, or any error")
	}
}
