package probe

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// TestMain makes the test program every program of a small installation: the
// probe child, the daemon, and the verify of a client without root.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case Subcommand:
			exit(Child(os.Args[2:], os.Stdin, os.Stdout))
		case "watch":
			exit(watch(os.Stdout))
		case "stand-in":
			exit(standIn(os.Args[2:]))
		case "verify":
			var t Target
			if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
				fmt.Fprintln(os.Stderr, err)
				exit(64)
			}
			json.NewEncoder(os.Stdout).Encode(Verify(context.Background(), t, nil))
			exit(0)
		}
	}
	os.Exit(m.Run())
}

// standIn is a daemon with two peers and a memory: enough of the wire for
// every live check, over the real library.
func standIn(args []string) int {
	f := flag.NewFlagSet("stand-in", flag.ContinueOnError)
	run := f.String("run", "", "")
	gid := f.Int("gid", -1, "")
	mode := f.Uint("mode", 0o660, "")
	core := f.Bool("core", false, "leave core dumps on")
	friendly := f.Bool("friendly", false, "permit the stranger")
	forgetful := f.Bool("forgetful", false, "keep neither letters nor records")
	locked := f.Bool("locked", false, "")
	if err := f.Parse(args); err != nil {
		return 64
	}
	if !*core {
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	type event struct {
		Seq       int    `json:"seq"`
		Kind      string `json:"kind"`
		ID        string `json:"id"`
		ClientUID uint32 `json:"client_uid"`
		PID       int32  `json:"pid"`
		Channel   string `json:"channel"`
		Exit      *int   `json:"exit,omitempty"`
	}
	type dead struct {
		ID string `json:"id"`
	}
	var mu sync.Mutex
	records, letters := []event{}, []dead{}
	tell := func(who wire.Identity, kind, id string, exit *int) {
		mu.Lock()
		defer mu.Unlock()
		if !*forgetful {
			records = append(records, event{len(records), kind, id, who.UID, who.PID, "loopback", exit})
		}
	}
	client := wire.HandlerFunc(func(_ context.Context, c *wire.Conn, r *wire.Request) (any, error) {
		switch r.Method {
		case "ping":
			return map[string]any{"pong": true, "user": "stand-in", "uid": os.Getuid(), "version": "0"}, nil
		case "channel.send":
			var p struct {
				Channel string `json:"channel"`
				To      string `json:"to"`
				Text    string `json:"text"`
			}
			if err := wire.Decode(r.Params, &p); err != nil {
				return nil, err
			}
			id := fmt.Sprintf("%x", time.Now().UnixNano())
			switch {
			case *locked:
				return nil, &wire.Error{Code: wire.CodeLocked, Message: "the gateway is locked"}
			case p.To == peerOK || *friendly:
				tell(c.Identity(), "intent", id, nil)
				tell(c.Identity(), "outcome", id, new(int))
				return map[string]any{"id": id}, nil
			}
			tell(c.Identity(), "refused", id, nil)
			mu.Lock()
			defer mu.Unlock()
			if !*forgetful {
				letters = append(letters, dead{id})
			}
			return nil, &wire.Error{Code: wire.CodeDenied, Message: "recipient not on the list", Data: &wire.ErrorData{ID: id}}
		}
		return nil, &wire.Error{Code: wire.CodeMethodNotFound, Message: "method not found"}
	})
	admin := wire.HandlerFunc(func(_ context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		switch r.Method {
		case "queue.list":
			return map[string]any{"letters": slices.Clone(letters)}, nil
		case "audit.show":
			return map[string]any{"records": slices.Clone(records)}, nil
		}
		return nil, &wire.Error{Code: wire.CodeMethodNotFound, Message: "method not found"}
	})
	var wg sync.WaitGroup
	for _, s := range []struct {
		name string
		mode os.FileMode
		gid  int
		h    wire.Handler
	}{{"gateway.sock", os.FileMode(*mode), *gid, client}, {"admin.sock", 0o600, -1, admin}} {
		l, err := wire.Listen(filepath.Join(*run, s.name), s.mode, s.gid)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		wg.Go(func() { (&wire.Server{Handler: s.h}).Serve(ctx, l) })
	}
	fmt.Println("ready")
	wg.Wait()
	return 0
}

// site is a small installation with real accounts, in a folder of root's.
type site struct {
	t       *testing.T // of the whole site
	dir     string
	target  Target
	service ident
	client  ident
	clients uint32 // gid
	daemon  *exec.Cmd
}

// shadow runs one of the account commands, again while another test holds the
// lock of the user database.
func shadow(t *testing.T, name string, args ...string) {
	t.Helper()
	for tries := 0; ; tries++ {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err == nil {
			return
		}
		if tries > 200 || !strings.Contains(string(out), "lock") {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func random() string {
	var b [3]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes throw-away users and runs probes as them")
	}
	for _, name := range []string{"/usr/sbin/useradd", "/usr/sbin/groupadd", "/usr/sbin/userdel", "/usr/bin/gpasswd"} {
		if _, err := os.Stat(name); err != nil {
			t.Skipf("needs %s: not on this machine", name)
		}
	}
}

func newGroup(t *testing.T) (string, uint32) {
	t.Helper()
	name := "cptestg" + random()
	shadow(t, "/usr/sbin/groupadd", "--system", name)
	t.Cleanup(func() { exec.Command("/usr/sbin/groupdel", name).Run() })
	g, err := user.LookupGroup(name)
	if err != nil {
		t.Fatal(err)
	}
	return name, number(t, g.Gid)
}

func newUser(t *testing.T, kind string, groups ...string) ident {
	t.Helper()
	name := "cptest" + kind + random()
	args := []string{"--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"}
	if len(groups) > 0 {
		args = append(args, "--groups", strings.Join(groups, ","))
	}
	shadow(t, "/usr/sbin/useradd", append(args, name)...)
	t.Cleanup(func() { shadow(t, "/usr/sbin/userdel", name) })
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return ident{name: name, uid: number(t, u.Uid), gid: number(t, u.Gid)}
}

func number(t *testing.T, s string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func newSite(t *testing.T) *site {
	t.Helper()
	needRoot(t)
	old := syscall.Umask(0o022)
	t.Cleanup(func() { syscall.Umask(old) })
	dir, err := os.MkdirTemp("/opt", "cptest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{t: t, dir: dir}
	group, gid := newGroup(t)
	s.clients = gid
	s.service = newUser(t, "s", group)
	s.client = newUser(t, "c", group)
	s.service.groups, s.client.groups = []uint32{gid}, []uint32{gid}

	at := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	s.folder(t, dir, 0, 0, 0o755)
	for _, d := range []string{"p", "p/bin", "p/libexec", "p/tools", "p/tools/imsg", "p/share", "units", "etc"} {
		s.folder(t, at(d), 0, 0, 0o755)
	}
	s.folder(t, at("etc/secrets"), 0, s.service.gid, 0o750)
	s.folder(t, at("setup"), 0, 0, 0o700)
	for _, d := range []string{"home", "state", "state/audit"} {
		s.folder(t, at(d), s.service.uid, s.service.gid, 0o700)
	}
	s.folder(t, at("run"), s.service.uid, gid, 0o750)
	s.folder(t, at("spool"), 0, 0, 0o711)
	s.folder(t, at("spool", s.client.name), s.service.uid, s.client.gid, 0o2750)
	s.folder(t, at("spool", "somebody"), s.service.uid, s.service.gid, 0o2750)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	files := []struct {
		name string
		data []byte
		mode os.FileMode
		gid  uint32
	}{
		{"p/bin/carapace-setup", program, 0o755, 0},
		{"p/bin/carapacectl", []byte("#!/bin/sh\n"), 0o755, 0},
		{"p/libexec/carapaced", program, 0o755, 0},
		{"p/tools/imsg/imsg", []byte("#!/bin/sh\n"), 0o755, 0},
		{"p/share/install.json", []byte("{}"), 0o644, 0},
		{"units/carapace.service", []byte("[Unit]\n"), 0o644, 0},
		{"etc/config.yaml", []byte("version: 1\n"), 0o640, s.service.gid},
		{"setup/receipt.json", []byte("{}"), 0o600, 0},
	}
	facts := wire.InstallFacts{Version: "0", Prefix: at("p"), ServiceUser: s.service.name, ServiceUID: s.service.uid,
		Socket: at("run/gateway.sock"), AdminSocket: at("run/admin.sock"), Spool: at("spool"), Clients: []string{s.client.name}}
	for _, f := range files {
		if err := os.WriteFile(at(f.name), f.data, 0o600); err != nil {
			t.Fatal(err)
		}
		s.own(t, at(f.name), 0, f.gid, f.mode)
		if strings.HasPrefix(f.name, "p/bin/") || strings.HasPrefix(f.name, "p/libexec/") {
			sum := sha256.Sum256(f.data)
			facts.Files = append(facts.Files, wire.InstallFile{Path: strings.TrimPrefix(f.name, "p/"), SHA256: hex.EncodeToString(sum[:])})
		}
	}
	s.target = Target{
		OS: Linux, Prefix: at("p"), Facts: facts,
		Client: s.client.name, ClientUID: s.client.uid, ClientGID: s.client.gid, ClientGroups: s.client.groups,
		ServiceUser: s.service.name, ClientGroup: group, SelfExe: at("p/bin/carapace-setup"), Root: true,
		Paths: Paths{Home: at("home"), State: at("state"), Config: at("etc/config.yaml"), Secrets: at("etc/secrets"), Audit: at("state/audit"),
			RunDir: at("run"), Receipt: at("setup/receipt.json"), Libexec: at("p/libexec"), Bin: at("p/bin"), Tools: at("p/tools"),
			SpoolRoot: at("spool"), Units: []string{at("units/carapace.service")}},
	}
	s.start(t, s.service)
	return s
}

func (s *site) folder(t *testing.T, path string, uid, gid uint32, mode os.FileMode) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	s.own(t, path, uid, gid, mode)
}

func (s *site) own(t *testing.T, path string, uid, gid uint32, mode os.FileMode) {
	t.Helper()
	if err := os.Lchown(path, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(path, uint32(mode)); err != nil {
		t.Fatal(err)
	}
}

// at is a path below the site.
func (s *site) at(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// start runs the daemon as who, until stop or the end of the test.
func (s *site) start(t *testing.T, who ident, flags ...string) {
	t.Helper()
	s.startProgram(t, s.at("p/libexec/carapaced"), who, flags...)
}

func (s *site) startProgram(t *testing.T, program string, who ident, flags ...string) {
	t.Helper()
	cmd := exec.Command(program, append([]string{"stand-in", "-run", s.at("run"), "-gid", fmt.Sprint(s.clients)}, flags...)...)
	cmd.Dir = "/"
	cmd.Env = childEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true,
		Credential: &syscall.Credential{Uid: who.uid, Gid: who.gid, Groups: who.groups}}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.daemon = cmd
	t.Cleanup(func() { s.stopDaemon(cmd) })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the stand-in daemon said %q, %v", line, err)
	}
	go io.Copy(io.Discard, out)
}

func (s *site) stop() { s.stopDaemon(s.daemon) }

func (s *site) stopDaemon(cmd *exec.Cmd) {
	if cmd.ProcessState != nil {
		return
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
	os.Remove(s.at("run/gateway.sock"))
	os.Remove(s.at("run/admin.sock"))
	os.Remove(s.at("run/gateway.sock.lock"))
	os.Remove(s.at("run/admin.sock.lock"))
}

// restart runs another daemon for the rest of the subtest, and the right one
// again after it.
func (s *site) restart(t *testing.T, who ident, flags ...string) {
	t.Helper()
	s.stop()
	// Cleanups run last in, first out: this one runs after that of start.
	t.Cleanup(func() { s.start(s.t, s.service) })
	s.start(t, who, flags...)
}

// verify runs checks as root: those named, or all.
func (s *site) verify(t *testing.T, only ...string) Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	v := newVerifier(ctx, s.target, nil)
	if len(only) > 0 {
		v.only = map[string]bool{}
		for _, id := range only {
			v.only[id] = true
		}
	}
	return v.run(ctx)
}

// verifyAs runs them as somebody without root, with the installed program.
func (s *site) verifyAs(t *testing.T, who ident) Report {
	t.Helper()
	target := s.target
	target.Root = false
	body, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.target.SelfExe, "verify")
	cmd.Dir = "/"
	cmd.Env = append(childEnv(), "TMPDIR=/tmp")
	cmd.Stdin = strings.NewReader(string(body))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true,
		Credential: &syscall.Credential{Uid: who.uid, Gid: who.gid, Groups: who.groups}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("verify as %s: %v", who, err)
	}
	var r Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("verify as %s: %v: %s", who, err, out)
	}
	return r
}

func (r Report) find(t *testing.T, id string) Check {
	t.Helper()
	i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.ID == id })
	if i < 0 {
		t.Fatalf("no check %s in the report", id)
	}
	return r.Checks[i]
}
