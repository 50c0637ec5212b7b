package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/ctl/offline"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// TestMain is also both halves of the program, as which the test binary is
// linked into an installation of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		ctl.Program: main,
		"carapaced": func() {
			os.Exit(offline.Run(context.Background(), os.Args[2:], os.Stdin, os.Stdout, os.Stderr, os.Geteuid()))
		},
	})
}

// stranger is a user that no account has.
const stranger = 54321

// TestScripts runs the program as a person would, in an installation of its
// own ($WORK/inst) whose gateway is scripted:
//
//	gateway FILE      answer as FILE says; see readAnswers
//	facts UID         write share/install.json with this service_uid ("me": the
//	                  user of the test, who listens)
//	exits N WORDS...  run WORDS, which must end with exit code N; stdout and
//	                  stderr are compared as after exec
//	client N WORDS... the same as a user who is neither root nor the service
//	                  user
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: install,
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %s", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"gateway": gatewayCmd,
			"facts":   factsCmd,
			"exits":   exitsCmd,
			"client":  clientCmd,
		},
	})
}

type world struct {
	dir string // of the sockets; short
}

func install(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "cctl")
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	bin := filepath.Join(dir, "bin")
	for _, path := range []string{filepath.Join(bin, ctl.Program), filepath.Join(dir, "libexec", "carapaced")} {
		if err := openFolder(filepath.Dir(path)); err != nil {
			return err
		}
		if os.Link(exe, path) != nil { // another file system
			if err := copyFile(exe, path); err != nil {
				return err
			}
		}
	}
	if err := openFolder(filepath.Join(dir, "share")); err != nil {
		return err
	}
	w := &world{dir}
	env.Values["world"] = w
	env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
	env.Setenv("INST", dir)
	return w.facts(os.Geteuid())
}

// openFolder makes a folder that everybody can read, whatever the umask is: a
// gateway that starts in a script beside this one changes it for a moment.
func openFolder(path string) error {
	return errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, 0o755))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), os.Chmod(to, 0o755))
}

func (w *world) clientSocket() string { return filepath.Join(w.dir, "g.sock") }
func (w *world) adminSocket() string  { return filepath.Join(w.dir, "a.sock") }

func (w *world) facts(uid int) error {
	b, err := json.Marshal(map[string]any{
		"version": wire.Version, "service_uid": uid, "socket": w.clientSocket(), "admin_socket": w.adminSocket(),
	})
	if err != nil {
		return err
	}
	path := filepath.Join(w.dir, "share", "install.json")
	return errors.Join(os.WriteFile(path, b, 0o644), os.Chmod(path, 0o644))
}

func factsCmd(ts *testscript.TestScript, neg bool, args []string) {
	w := ts.Value("world").(*world)
	uid := os.Geteuid()
	if len(args) == 1 && args[0] != "me" {
		var err error
		uid, err = strconv.Atoi(args[0])
		ts.Check(err)
	}
	ts.Check(w.facts(uid))
}

// clientCmd runs a program as an ordinary user. Root becomes another one; an
// ordinary user stays who he is, and the service user is said to be another.
// Both find the gateway by the environment.
func clientCmd(ts *testscript.TestScript, neg bool, args []string) {
	w := ts.Value("world").(*world)
	if os.Geteuid() != 0 {
		ts.Check(w.facts(os.Geteuid() + 1))
	}
	ts.Setenv("CARAPACE_SOCKET", w.clientSocket())
	ts.Setenv("CARAPACE_SERVER_UID", strconv.Itoa(os.Geteuid()))
	words := args[1:]
	if os.Geteuid() == 0 {
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			ts.Fatalf("setpriv (util-linux) is needed to run this as root")
		}
		id := strconv.Itoa(stranger)
		words = append([]string{setpriv, "--reuid", id, "--regid", id, "--clear-groups"}, words...)
	}
	exits(ts, args[0], words)
}

func exitsCmd(ts *testscript.TestScript, neg bool, args []string) {
	exits(ts, args[0], args[1:])
}

func exits(ts *testscript.TestScript, want string, words []string) {
	err := ts.Exec(words[0], words[1:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v: %v", words, err)
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("%v: exit code %d, want %s", words, got, want)
	}
}

// answers is what a scripted gateway says: for each socket and method what it
// answers in turn, the last one for ever.
type answers struct {
	mu    sync.Mutex
	left  map[string][]string
	asked *os.File
}

// readAnswers reads lines of the form
//
//	client|admin METHOD JSON            the result
//	client|admin METHOD error JSON      the error object
func readAnswers(text string) (map[string][]string, error) {
	all := map[string][]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		socket, rest, _ := strings.Cut(line, " ")
		method, says, ok := strings.Cut(rest, " ")
		if !ok || socket != "client" && socket != "admin" {
			return nil, fmt.Errorf("bad line %q", line)
		}
		all[socket+" "+method] = append(all[socket+" "+method], says)
	}
	return all, nil
}

// gatewayCmd starts the scripted gateway on both sockets. What it is asked it
// writes to $WORK/asked, one request a line.
func gatewayCmd(ts *testscript.TestScript, neg bool, args []string) {
	w := ts.Value("world").(*world)
	all, err := readAnswers(ts.ReadFile(args[0]))
	ts.Check(err)
	asked, err := os.Create(ts.MkAbs("asked"))
	ts.Check(err)
	a := &answers{left: all, asked: asked}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for socket, path := range map[string]string{"client": w.clientSocket(), "admin": w.adminSocket()} {
		l, err := wire.Listen(path, 0o666, -1)
		ts.Check(err)
		s := &wire.Server{Limits: wire.Limits{Drain: time.Second}, Handler: wire.HandlerFunc(
			func(ctx context.Context, c *wire.Conn, r *wire.Request) (any, error) { return a.handle(ctx, socket, r) })}
		wg.Go(func() { s.Serve(ctx, l) })
	}
	ts.Defer(func() {
		cancel()
		wg.Wait()
		asked.Close()
	})
}

func (a *answers) handle(ctx context.Context, socket string, r *wire.Request) (any, error) {
	a.mu.Lock()
	key := socket + " " + r.Method
	says := a.left[key]
	if len(says) > 1 {
		a.left[key] = says[1:]
	}
	fmt.Fprintln(a.asked, key, string(r.Params))
	a.mu.Unlock()
	if len(says) == 0 {
		return nil, &wire.Error{Code: wire.CodeMethodNotFound, Message: "not in the script: " + key}
	}
	if text, ok := strings.CutPrefix(says[0], "error "); ok {
		e := new(wire.Error)
		if err := json.Unmarshal([]byte(text), e); err != nil {
			return nil, err
		}
		return nil, e
	}
	return json.RawMessage(says[0]), nil
}

// TestFollow shows that audit tail -f prints what comes, and waits for a
// gateway that restarts.
func TestFollow(t *testing.T) {
	dir, err := os.MkdirTemp("", "cctl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "a.sock")
	var mu sync.Mutex
	records := []string{`{"seq":0,"time":"t0","kind":"start"}`, `{"seq":1,"time":"t1","kind":"refused","reason":"first"}`}
	start := func() func() {
		l, err := wire.Listen(path, 0o600, -1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		s := &wire.Server{Handler: wire.HandlerFunc(func(_ context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
			var p struct {
				From  uint64 `json:"from"`
				Limit int    `json:"limit"`
				Tail  int    `json:"tail"`
			}
			if err := wire.Decode(r.Params, &p); err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			if p.Tail > 0 {
				p.From = uint64(max(0, len(records)-p.Tail))
			}
			out := []json.RawMessage{}
			for _, r := range records[min(int(p.From), len(records)):] {
				out = append(out, json.RawMessage(r))
			}
			return map[string]any{"records": out, "next": p.From + uint64(len(out))}, nil
		})}
		go func() { defer close(done); s.Serve(ctx, l) }()
		return func() { cancel(); <-done }
	}
	stop := start()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	admin := func() (wire.ClientOptions, error) {
		return wire.ClientOptions{Socket: path, ServerUID: uint32(os.Geteuid())}, nil
	}
	ended := make(chan int, 1)
	var stderr strings.Builder
	go func() {
		a := &app{discoverAdmin: admin}
		ended <- ctl.Run(ctx, &ctl.Env{Args: []string{"audit", "tail", "-f", "-n", "1"}, Stdout: w, Stderr: &stderr, UID: os.Geteuid()}, a.commands())
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("printed %q, want %q", lines.Text(), want)
		}
	}
	expect("1 t1 refused reason=first")
	add := func(r string) {
		mu.Lock()
		defer mu.Unlock()
		records = append(records, r)
	}
	add(`{"seq":2,"time":"t2","kind":"held"}`)
	expect("2 t2 held")
	stop()
	time.Sleep(2 * between)
	add(`{"seq":3,"time":"t3","kind":"stop"}`)
	add(`{"seq":4,"time":"t4","kind":"start"}`)
	stop = start()
	defer stop()
	expect("3 t3 stop")
	expect("4 t4 start")
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}
	if got := stderr.String(); got != "carapacectl: the gateway is away; waiting for it\n" {
		t.Errorf("stderr: %q", got)
	}
}

func TestRecordLine(t *testing.T) {
	uid := uint32(0)
	exit := 0
	for want, r := range map[string]record{
		"0 t start": {Time: "t", Kind: "start"},
		`3 t intent loopback outbound send command=send peers=a,b verdict=allow exit=0 uid=0`: {Seq: 3, Time: "t", Kind: "intent",
			Channel: "loopback", Direction: "outbound", Verb: "send", Command: "send", Peers: []string{"a", "b"}, Verdict: "allow", ClientUID: &uid, Exit: &exit},
		`1 t admin rule="lock: verdict=allow" reason="a \"b\"\nc"`: {Seq: 1, Time: "t", Kind: "admin", Rule: "lock: verdict=allow", Reason: "a \"b\"\nc"},
	} {
		if got := recordLine(r); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestOtherHalf(t *testing.T) {
	for exe, want := range map[string]string{
		"/usr/local/carapace/bin/carapacectl": "/usr/local/carapace/libexec/carapaced",
		"/src/dist/carapacectl":               "/src/dist/carapaced",
	} {
		if got := otherHalf(exe); got != want {
			t.Errorf("%s: %s", exe, got)
		}
	}
}

// Every command can be found by its name, has help, and is in the table once.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range (&app{}).commands() {
		if seen[c.Name] || c.About == "" {
			t.Errorf("%s stands twice, or says nothing", c.Name)
		}
		seen[c.Name] = true
		var out, stderr strings.Builder
		e := &ctl.Env{Args: append([]string{"help"}, strings.Fields(c.Name)...), Stdout: &out, Stderr: &stderr}
		if code := ctl.Run(context.Background(), e, (&app{}).commands()); code != 0 || !strings.HasPrefix(out.String(), "usage: carapacectl "+c.Name) {
			t.Errorf("%s: exit %d, %s%s", c.Name, code, out.String(), stderr.String())
		}
	}
}
