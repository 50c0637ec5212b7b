package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// prefix is a folder laid out as an installation is: bin with the program
// under all its names, share with the facts. Every user can reach it.
var prefix string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cptest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	prefix = dir
	shim := filepath.Join(dir, "bin", "carapace-shim")
	build := exec.Command("go", "build", "-trimpath", "-o", shim, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the shim: %v\n%s", err, out)
		return 1
	}
	for _, d := range []string{"", "bin"} {
		if err := os.Chmod(filepath.Join(dir, d), 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	for _, name := range []string{"imsg", "signal-cli", "discord", "gog", "openclaw", "else"} {
		if err := os.Link(shim, filepath.Join(dir, "bin", name)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// asUser makes a command run as somebody who is not root: the variables for
// tests are not for root. The uid needs no account.
func asUser(c *exec.Cmd) {
	if os.Getuid() == 0 {
		id := uint32(61000 + os.Getpid()%1000)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	}
}

// gate is a gateway that does what the first argument after the tool's name
// says.
type gate struct {
	dir    string
	socket string
	mu     sync.Mutex
	calls  []string
}

func newGate(t testing.TB) *gate {
	t.Helper()
	dir, err := os.MkdirTemp("", "cptest") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g := &gate{dir: dir, socket: filepath.Join(dir, "g.sock")}
	l, err := wire.Listen(g.socket, 0o666, -1)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := wire.NewStage(filepath.Join(dir, "stage"), wire.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan struct{})
	s := &wire.Server{Handler: wire.HandlerFunc(g.handle), Stage: stage, Limits: wire.Limits{Drain: time.Millisecond}}
	go func() {
		defer close(served)
		_ = s.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		stop()
		<-served
		stage.Close()
	})
	return g
}

func (g *gate) note(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, fmt.Sprintf(format, args...))
}

func (g *gate) log() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(append(g.calls, ""), "\n")
}

func (g *gate) handle(ctx context.Context, c *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		Channel string          `json:"channel" wire:"required"`
		Argv    []string        `json:"argv" wire:"required"`
		Stdin   json.RawMessage `json:"stdin"`
	}
	if r.Method != "call" {
		return map[string]any{"pong": true}, nil
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	g.note("%s %q", p.Channel, p.Argv)
	for handle, f := range c.Files().All() {
		b, err := os.ReadFile(f.Path)
		if err != nil {
			return nil, err
		}
		g.note("%s is %q, %d bytes, %q", handle, f.Name, f.Size, b[:min(len(b), 40)])
	}
	say := func(stream, text string) {
		_ = c.Notify("output", map[string]any{"call": 1, "stream": stream, "data": []byte(text)})
	}
	word := func(i int) string {
		if i < len(p.Argv) {
			return p.Argv[i]
		}
		return ""
	}
	exit := 0
	switch word(1) {
	case "bytes":
		say("stdout", "one\ntwo\x00\xff\x1b[31m")
		say("stderr", "err ")
		say("stdout", "")
		say("stdout", "three")
		say("stderr", "or\n")
		say("else", "nowhere")
		_ = c.Notify("surprise", map[string]any{"data": []byte("nothing")})
	case "exit":
		exit, _ = strconv.Atoi(word(2))
	case "none":
		return map[string]any{"pong": true}, nil
	case "much":
		for range 200 {
			say("stdout", strings.Repeat("0123456789abcde\n", 4096))
		}
	case "error":
		code, _ := strconv.Atoi(word(2))
		return nil, &wire.Error{Code: code, Message: word(3), Data: &wire.ErrorData{ID: word(4), Hint: word(5)}}
	case "hang":
		say("stdout", "hanging\n")
		<-ctx.Done()
	}
	return map[string]int{"exit": exit}, nil
}

func TestScripts(t *testing.T) {
	root, err := os.MkdirTemp("", "cptest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	type key struct{}
	testscript.Run(t, testscript.Params{
		Dir:         "testdata",
		WorkdirRoot: root,
		Setup: func(env *testscript.Env) error {
			g := newGate(env.T().(testing.TB))
			env.Values[key{}] = g
			env.Setenv("GATE", g.dir)
			env.Setenv("CARAPACE_SOCKET", g.socket)
			env.Setenv("CARAPACE_SERVER_UID", strconv.Itoa(os.Getuid()))
			env.Setenv("HOME", env.WorkDir+"/home")
			return open(env.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// shim CODE NAME ARGS...: run it, and check how it ends.
			"shim": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: shim code name args...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				cmd := exec.Command(filepath.Join(prefix, "bin", args[1]), args[2:]...)
				cmd.Args[0] = args[1]
				cmd.Dir = ts.MkAbs(".")
				for _, v := range []string{"HOME", "CARAPACE_SOCKET", "CARAPACE_SERVER_UID"} {
					cmd.Env = append(cmd.Env, v+"="+ts.Getenv(v))
				}
				cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
				asUser(cmd)
				err = cmd.Run()
				var ended *exec.ExitError
				if err != nil && !errors.As(err, &ended) {
					ts.Fatalf("%v", err)
				}
				if got := cmd.ProcessState.ExitCode(); got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
			// calls: what the gateway was asked.
			"calls": func(ts *testscript.TestScript, neg bool, args []string) {
				_, err := io.WriteString(ts.Stdout(), ts.Value(key{}).(*gate).log())
				ts.Check(err)
			},
			// hex: the output of the last command, byte by byte.
			"hex": func(ts *testscript.TestScript, neg bool, args []string) {
				_, err := fmt.Fprintln(ts.Stdout(), hex.EncodeToString([]byte(ts.ReadFile("stdout"))))
				ts.Check(err)
			},
			// size N: how many bytes the last command printed.
			"size": func(ts *testscript.TestScript, neg bool, args []string) {
				if got := strconv.Itoa(len(ts.ReadFile("stdout"))); got != args[0] {
					ts.Fatalf("%s bytes, want %s", got, args[0])
				}
			},
			// holes FILE SIZE: a file of that many zeros.
			"holes": func(ts *testscript.TestScript, neg bool, args []string) {
				size, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), nil, 0o644))
				ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
				ts.Check(os.Chmod(ts.MkAbs(args[0]), 0o644))
			},
			"mkfifo": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]), 0o644))
				ts.Check(os.Chmod(ts.MkAbs(args[0]), 0o644))
			},
		},
	})
}

// open makes everything below dir readable for all: whoever runs the tests may
// have another umask, and a gateway that binds its socket changes it for a
// moment.
func open(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	})
}

// command is the shim as imsg, asking g.
func command(g *gate, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(prefix, "bin", "imsg"), args...)
	c.Args[0] = "imsg"
	c.Env = []string{"CARAPACE_SOCKET=" + g.socket, "CARAPACE_SERVER_UID=" + strconv.Itoa(os.Getuid())}
	asUser(c)
	return c
}

func TestInputIsNotRead(t *testing.T) {
	g := newGate(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := command(g, "exit", "0")
	c.Stdin = r // open, and nothing ever comes
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("for the next program\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := r.Read(buf); err != nil || string(buf[:n]) != "for the next program\n" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
}

// A reader that is gone ends a shim the way it ends every other program.
func TestBrokenPipe(t *testing.T) {
	g := newGate(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := command(g, "much")
	c.Stdout = w
	var ers bytes.Buffer
	c.Stderr = &ers
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	_ = c.Wait()
	ws := c.ProcessState.Sys().(syscall.WaitStatus)
	if !ws.Signaled() || ws.Signal() != syscall.SIGPIPE || ers.Len() != 0 {
		t.Errorf("ended with %v, saying %q", c.ProcessState, ers.String())
	}
}

func TestClosedOutput(t *testing.T) {
	g := newGate(t)
	c := command(g, "bytes")
	sh := exec.Command("/bin/sh", "-c", `exec "$0" bytes >&- 2>&-`, c.Path)
	sh.Env, sh.SysProcAttr = c.Env, c.SysProcAttr
	if err := sh.Run(); err != nil {
		t.Errorf("ended with %v", err)
	}
	if got, want := g.log(), "imessage [\"imsg\" \"bytes\"]\n"; got != want {
		t.Errorf("the gateway was asked %q", got)
	}
}

func TestInterrupt(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		g := newGate(t)
		c := command(g, "hang")
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var ers bytes.Buffer
		c.Stderr = &ers
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if b := make([]byte, 8); true {
			if _, err := io.ReadFull(out, b); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		_ = c.Wait()
		if ws := c.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig || ers.Len() != 0 || len(rest) != 0 {
			t.Errorf("%v: ended with %v, saying %q %q", sig, c.ProcessState, rest, ers.String())
		}
	}
}

// fake listens and does what fn does with each connection.
func fake(t *testing.T, fn func(net.Conn)) *gate {
	t.Helper()
	dir, err := os.MkdirTemp("", "cptest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g := &gate{dir: dir, socket: filepath.Join(dir, "g.sock")}
	l, err := net.Listen("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.Chmod(g.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go fn(c)
		}
	}()
	return g
}

func ends(t *testing.T, c *exec.Cmd, code int, stdout, stderr string) {
	t.Helper()
	var out, ers bytes.Buffer
	c.Stdout, c.Stderr = &out, &ers
	var ended *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if got := c.ProcessState.ExitCode(); got != code || out.String() != stdout || !strings.HasPrefix(ers.String(), stderr) {
		t.Errorf("exit %d, stdout %q, stderr %q\nwant %d, %q, %q…", got, out.String(), ers.String(), code, stdout, stderr)
	}
}

// A gateway that takes the connection and says nothing is given two seconds.
func TestSilentGateway(t *testing.T) {
	g := fake(t, func(c net.Conn) {
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	})
	began := time.Now()
	ends(t, command(g, "chats"), 69, "imsg: gateway cannot be reached: the gateway does not answer\n", "imsg: hint: ")
	if took := time.Since(began); took < time.Second || took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestGatewayCloses(t *testing.T) {
	g := fake(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		c.Close()
	})
	ends(t, command(g, "send", "--to", "x"), 69, "imsg: the gateway closed the connection\n", "imsg: hint: whether it happened is not known")
}

func TestGatewayBabbles(t *testing.T) {
	g := fake(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		c.Close()
	})
	ends(t, command(g, "chats"), 69, "imsg: gateway cannot be reached\n", "imsg: hint: ")
}

// An installation is found from the program's own place, by root too, whom the
// variables for tests do not lead astray.
func TestInstallation(t *testing.T) {
	g := newGate(t)
	other := newGate(t)
	facts := filepath.Join(prefix, "share", "install.json")
	if err := os.MkdirAll(filepath.Dir(facts), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(facts)) })
	text := fmt.Sprintf(`{"version":"1","service_uid":%d,"socket":%q,"admin_socket":%q}`, os.Getuid(), g.socket, g.dir+"/admin.sock")
	if err := os.WriteFile(facts, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := command(other, "exit", "3")
	c.Env = nil
	ends(t, c, 3, "", "")
	if g.log() == "" {
		t.Error("the installation's gateway was not asked")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: the variables for tests are ignored for root")
	}
	c = command(other, "exit", "4")
	c.SysProcAttr = nil
	ends(t, c, 4, "", "")
	if other.log() != "" {
		t.Errorf("root followed the environment: %s", other.log())
	}
	// A folder that everybody could have made proves nothing.
	if err := os.Chmod(facts, 0o666); err != nil {
		t.Fatal(err)
	}
	c = command(other, "exit", "0")
	c.SysProcAttr = nil
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Run(); err == nil || c.ProcessState.ExitCode() != 69 || !strings.HasPrefix(out.String(), "imsg: gateway cannot be reached: no installation") {
		t.Errorf("%v, %s", err, out.String())
	}
}
