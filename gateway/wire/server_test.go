package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
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
	var in incomingLine
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

func TestCall(t *testing.T) {
	path := serve(t, &Server{})
	c := dialed(t, path)
	var got map[string]any
	if err := c.Call(t.Context(), "echo", map[string]any{"a": "<b> \u2028"}, &got); err != nil || got["a"] != "<b> \u2028" {
		t.Fatalf("echo: %v, %v", got, err)
	}
}
