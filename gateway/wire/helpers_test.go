package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen; a busy machine may
// need much of it.
const patience = 20 * time.Second

// shortDir returns a folder whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// echo answers with its parameters; other methods are named after what they
// do.
func echo(ctx context.Context, c *Conn, r *Request) (any, error) {
	switch r.Method {
	case "ping":
		return map[string]any{"pong": true}, nil
	case "echo":
		return r.Params, nil
	case "nothing":
		return nil, nil
	case "panic":
		panic("as asked")
	case "broken":
		return nil, fmt.Errorf("open /secret/path: denied")
	case "refused":
		return nil, fmt.Errorf("deep inside: %w", &Error{Code: CodeDenied, Message: "recipient not on the list", Data: &ErrorData{ID: "7f3c9a", Hint: "ask"}})
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	case "huge":
		return map[string]string{"x": string(make([]byte, 4<<20))}, nil
	case "talk":
		for i := range 100 {
			if err := c.Notify("said", map[string]int{"n": i}); err != nil {
				return nil, err
			}
		}
		return map[string]int{"said": 100}, nil
	case "files":
		names := []string{}
		for h, f := range c.Files().All() {
			b, err := os.ReadFile(f.Path)
			if err != nil {
				return nil, err
			}
			names = append(names, fmt.Sprintf("%s %s %d", h, f.Name, len(b)))
		}
		return names, nil
	}
	return nil, &Error{Code: CodeMethodNotFound, Message: "unknown method"}
}

// serve starts a server in a folder of its own and returns its socket. It ends
// with the test, and must end in order.
func serve(t testing.TB, s *Server) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "s")
	l, err := Listen(path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	if s.Handler == nil {
		s.Handler = HandlerFunc(echo)
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not return")
		}
	})
	return path
}

func dialed(t testing.TB, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), ClientOptions{Socket: path, ServerUID: uint32(os.Geteuid()), DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// raw is a connection that says what it likes.
type raw struct {
	t testing.TB
	*net.UnixConn
	r *bufio.Reader
}

func rawDial(t testing.TB, path string) *raw {
	t.Helper()
	nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetReadDeadline(time.Now().Add(patience))
	return &raw{t, nc, bufio.NewReader(nc)}
}

func (r *raw) say(s string) {
	r.t.Helper()
	if _, err := r.Write([]byte(s)); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

// hear returns the next line's id and error code (0 for a result).
func (r *raw) hear() (id string, code int, message string) {
	r.t.Helper()
	line, err := r.r.ReadBytes('\n')
	if err != nil {
		r.t.Fatalf("no answer: %v", err)
	}
	var in struct {
		ID     json.RawMessage
		Result json.RawMessage
		Error  *Error
	}
	if err := json.Unmarshal(line, &in); err != nil {
		r.t.Fatalf("answer %q: %v", line, err)
	}
	if in.Error != nil {
		return string(in.ID), in.Error.Code, in.Error.Message
	}
	return string(in.ID), 0, string(in.Result)
}

func (r *raw) closed() {
	r.t.Helper()
	if line, err := r.r.ReadBytes('\n'); err == nil || os.IsTimeout(err) {
		r.t.Fatalf("the connection is still open: %q, %v", line, err)
	}
}

func newStage(t testing.TB, l Limits) *Stage {
	t.Helper()
	s, err := NewStage(filepath.Join(shortDir(t), "stage"), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// helper runs this test binary again as a process of its own, under other
// credentials if any are given, and returns what it prints.
func helper(t *testing.T, what string, as *syscall.Credential, env ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if as != nil { // the other user cannot reach the place where go test builds
		b, err := os.ReadFile(exe)
		if err != nil {
			t.Fatal(err)
		}
		dir := shortDir(t)
		exe = filepath.Join(dir, "helper")
		if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(exe, b, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^TestHelper$")
	cmd.Dir = "/"
	cmd.Env = append(append(os.Environ(), "WIRE_TEST_HELPER="+what), env...)
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helper %s: %v\n%s%s", what, err, out, stderr.String())
	}
	return string(out)
}

// TestHelper is no test: it is what helper runs.
func TestHelper(t *testing.T) {
	var err error
	switch os.Getenv("WIRE_TEST_HELPER") {
	case "":
		t.Skip("only used by other tests, as a process of its own")
	case "descriptors":
		err = descriptorsHelper()
	case "ping":
		err = pingHelper()
	case "listen":
		err = listenHelper()
	case "discover":
		err = discoverHelper()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// stranger returns the credentials of a user that no account has.
func stranger(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a process of another user is part of it")
	}
	return &syscall.Credential{Uid: 54321, Gid: 54321}
}

func jsonRaw(s string) json.RawMessage { return json.RawMessage(s) }
