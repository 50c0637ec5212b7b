package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// Whatever a client says, every line that it is answered is a well-formed
// error or result, the connection ends in bounded time, and the next client is
// served.
func FuzzServerLine(f *testing.F) {
	for _, s := range []string{
		"", "\n", "\r\n\r\n", "{}\n", "[]\n", "null\n", "x",
		`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n",
		`{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":[1,{"b":"\ud83d\ude00"}]}}` + "\n" + `{"jsonrpc":"2.0","id":"x","method":"ping"}` + "\n",
		`{"jsonrpc":"2.0","method":"ping"}` + "\n",
		`{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}` + "\n",
		`{"jsonrpc":"2.0","id":1,"method":"file.open","params":{"name":"a","size":3}}` + "\n" +
			`{"jsonrpc":"2.0","id":2,"method":"file.data","params":{"file":"file:1","data":"YWJj"}}` + "\n" +
			`{"jsonrpc":"2.0","id":3,"method":"file.close","params":{"file":"file:1","sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}` + "\n",
		strings.Repeat("[", 5000) + "\n", "\xff\xfe\n", strings.Repeat("x", 5000),
	} {
		f.Add([]byte(s))
	}
	path := serve(f, &Server{
		Limits: Limits{MaxMessage: 4096},
		Stage:  newStage(f, Limits{}),
		Handler: HandlerFunc(func(ctx context.Context, c *Conn, r *Request) (any, error) {
			if r.Method == "ping" || r.Method == "echo" {
				return r.Params, nil
			}
			return nil, refusal(CodeMethodNotFound, "unknown method")
		}),
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(patience))
		go func() {
			nc.Write(b)
			nc.CloseWrite()
		}()
		said, err := io.ReadAll(nc)
		if os.IsTimeout(err) {
			t.Fatalf("%q: the connection does not end", b)
		}
		for line := range bytes.Lines(said) {
			a, err := parseAnswer(line)
			if err != nil || !json.Valid(line) || line[len(line)-1] != '\n' || a.id == nil || (a.problem == nil) == (a.result == nil) {
				t.Fatalf("%q is answered %q: %v", b, line, err)
			}
			if p := a.problem; p != nil && (p.Message == "" || Escape(p.Message) != p.Message || p.Exit() == 0) {
				t.Fatalf("%q is answered %q", b, line)
			}
		}
		c := dialed(t, path)
		defer c.Close()
		if err := c.Call(t.Context(), "ping", nil, nil); err != nil {
			t.Fatalf("after %q: %v", b, err)
		}
	})
}
