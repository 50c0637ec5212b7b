package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel/imsg/imsgtest"
	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// TestMain lets the test binary be started again as a client under another
// uid: a real process with a real kernel identity.
func TestMain(m *testing.M) {
	switch os.Getenv("CPTEST_CLIENT") {
	case "send":
		os.Exit(sender(os.Args[1:]))
	case "ask":
		os.Exit(asker(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// sender sends numbered messages until it is told to stop, and prints one line
// for each: the peer, and how it ended.
func sender(args []string) int {
	from, _ := strconv.Atoi(args[0])
	to, _ := strconv.Atoi(args[1])
	channel := args[2]
	var c *wire.Client
	for i := from; i < to; i++ {
		peer := fmt.Sprintf("+1555%07d", i)
		if channel == "loopback" {
			peer = fmt.Sprintf("peer-%d", i)
		}
		for c == nil {
			o, err := wire.Discover()
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			if c, err = wire.Dial(context.Background(), o); err != nil {
				time.Sleep(20 * time.Millisecond)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := c.Call(ctx, "channel.send", map[string]string{"channel": channel, "to": peer, "text": "message " + strconv.Itoa(i)}, nil)
		cancel()
		if err == nil {
			fmt.Println(peer, "ok")
			continue
		}
		fmt.Println(peer, "error", strings.ReplaceAll(err.Error(), "\n", " "))
		if _, ok := err.(*wire.Error); !ok {
			c.Close()
			c = nil // the gateway went away; this message is not tried again
		}
	}
	return 0
}

// asker calls one method and prints its result.
func asker(method, params string) int {
	o, err := wire.Discover()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c, err := wire.Dial(context.Background(), o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	var result json.RawMessage
	if err := c.Call(context.Background(), method, json.RawMessage(params), &result); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return wire.ExitCode(err)
	}
	fmt.Println(string(result))
	return 0
}

// house is an installation made by hand with real throw-away users, in a
// folder whose parents are root's alone.
type house struct {
	t              *testing.T
	root           string
	service, agent *user.User
	group          *user.Group
	socket         string
	daemon         *exec.Cmd
	log            *bytes.Buffer
	logMu          sync.Mutex
}

func newHouse(t *testing.T, yaml string) *house {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes throw-away users and runs the daemon as one of them")
	}
	suffix := strconv.FormatUint(uint64(rand.Uint32()), 36)
	h := &house{t: t, root: "/opt/cptest-" + suffix, log: new(bytes.Buffer)}
	clients := "cptestc" + suffix
	h.must("groupadd", "--system", clients)
	t.Cleanup(func() { h.try("groupdel", clients) })
	for _, name := range []string{"cptests" + suffix, "cptesta" + suffix} {
		h.must("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", h.root+"/home", "--shell", "/usr/sbin/nologin", "-G", clients, name)
		t.Cleanup(func() { h.try("userdel", name) })
	}
	var err error
	if h.service, err = user.Lookup("cptests" + suffix); err != nil {
		t.Fatal(err)
	}
	if h.agent, err = user.Lookup("cptesta" + suffix); err != nil {
		t.Fatal(err)
	}
	if h.group, err = user.LookupGroup(clients); err != nil {
		t.Fatal(err)
	}
	suid, cgid := atoi(h.service.Uid), atoi(h.group.Gid)
	for _, d := range []struct {
		path     string
		uid, gid int
		mode     os.FileMode
	}{{"", 0, 0, 0o755}, {"bin", 0, 0, 0o755}, {"tools", 0, 0, 0o755}, {"sent", suid, atoi(h.service.Gid), 0o700},
		{"state", suid, atoi(h.service.Gid), 0o700}, {"home", suid, atoi(h.service.Gid), 0o700},
		{"run", suid, cgid, 0o750}, {"spool", 0, 0, 0o711}} {
		path := filepath.Join(h.root, d.path)
		if err := os.Mkdir(path, d.mode); err != nil {
			t.Fatal(err)
		}
		if d.path == "" {
			t.Cleanup(func() { os.RemoveAll(h.root) })
		}
		if err := os.Chown(path, d.uid, d.gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, d.mode); err != nil {
			t.Fatal(err)
		}
	}
	h.socket = filepath.Join(h.root, "run", "gateway.sock")
	for _, p := range []string{"./gateway/cmd/carapaced", "./gateway/cmd/carapacectl", "./shims/cmd/carapace-shim"} {
		build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(h.root, "bin")+"/", p)
		build.Dir, build.Env = "../../..", append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", p, err, out)
		}
	}
	if err := os.Link(h.bin("carapace-shim"), h.bin("imsg")); err != nil {
		t.Fatal(err)
	}
	imsgtest.Feed(t, imsgtest.Install(t, h.root+"/tools"), imsgtest.Fixture{Dir: h.root + "/sent", Chats: []imsgtest.Chat{}, Messages: []imsgtest.Message{}})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, self, h.bin("sender"), 0o755)
	h.configure(yaml)
	return h
}

func (h *house) bin(name string) string { return filepath.Join(h.root, "bin", name) }

// configure writes config.yaml; AGENT and ROOT in it are replaced.
func (h *house) configure(yaml string) {
	yaml = strings.NewReplacer("AGENT", h.agent.Username, "ROOT", h.root).Replace(yaml)
	path := filepath.Join(h.root, "config.yaml")
	writeFile(h.t, path, []byte(yaml), 0o640)
	if err := os.Chown(path, 0, atoi(h.service.Gid)); err != nil {
		h.t.Fatal(err)
	}
}

// start runs the real daemon as the service user and waits for its socket.
func (h *house) start() {
	h.t.Helper()
	h.daemon = exec.Command(h.bin("carapaced"), "--config", h.root+"/config.yaml", "--state", h.root+"/state",
		"--run", h.root+"/run", "--spool", h.root+"/spool")
	h.daemon.Env = []string{"PATH=/usr/bin:/bin", "CANARY_ENVIRONMENT=1"}
	h.daemon.SysProcAttr = credential(h.service, h.group)
	h.daemon.Stderr = writerFunc(func(p []byte) (int, error) {
		h.logMu.Lock()
		defer h.logMu.Unlock()
		return h.log.Write(p)
	})
	if err := h.daemon.Start(); err != nil {
		h.t.Fatal(err)
	}
	d := h.daemon
	h.t.Cleanup(func() { d.Process.Kill(); d.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("unix", h.socket)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the daemon does not answer: %v\n%s", err, h.logged())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *house) logged() string {
	h.logMu.Lock()
	defer h.logMu.Unlock()
	return h.log.String()
}

func (h *house) kill() {
	h.daemon.Process.Kill()
	h.daemon.Wait()
}

// as runs a program as the client, the way an agent would.
func (h *house) as(who *user.User, program string, args ...string) (stdout, stderr string, exit int) {
	h.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "CARAPACE_SOCKET=" + h.socket, "CARAPACE_SERVER_UID=" + h.service.Uid}
	cmd.SysProcAttr = credential(who, h.group)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		h.t.Fatalf("run %s: %v", program, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// admin asks the daemon as root.
func (h *house) admin(method string, params, result any) error {
	h.t.Helper()
	c, err := wire.Dial(context.Background(), wire.ClientOptions{Socket: filepath.Join(h.root, "run", "admin.sock"), ServerUID: uint32(atoi(h.service.Uid))})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(context.Background(), method, params, result)
}

func (h *house) records() []journal.Event {
	h.t.Helper()
	var all []journal.Event
	for from := uint64(0); ; {
		var page struct {
			Records []journal.Event `json:"records"`
			Next    uint64          `json:"next"`
		}
		if err := h.admin("audit.show", map[string]any{"from": from}, &page); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, page.Records...)
		if len(page.Records) == 0 {
			return all
		}
		from = page.Next
	}
}

func (h *house) letters() []journal.Letter {
	h.t.Helper()
	var list struct {
		Letters []journal.Letter `json:"letters"`
	}
	if err := h.admin("queue.list", nil, &list); err != nil {
		h.t.Fatal(err)
	}
	return list.Letters
}

// delivered is what the stand-in tool says that it sent.
func (h *house) delivered() []imsgtest.Sent {
	h.t.Helper()
	return imsgtest.SentIn(h.t, h.root+"/sent")
}

// fault makes the stand-in tool break in a way that imsgtest names.
func (h *house) fault(what string) {
	h.t.Helper()
	imsgtest.Break(h.t, h.root+"/sent", what)
}

const ordinary = `version: 1
clients: [AGENT]
channels:
  loopback:
    enabled: true
    outbound: {mode: allowlist, allow: [echo]}
    inbound: {mode: allowlist, allow: [echo]}
  imessage:
    enabled: true
    tool: ROOT/tools/imsg
    outbound: {mode: allowlist, allow: ["+15551234567"]}
    inbound: {mode: allowlist, allow: ["+15551234567"]}
`

// TestRealUsers is the promise of the project, once, end to end, with real
// accounts and real processes.
func TestRealUsers(t *testing.T) {
	h := newHouse(t, ordinary)
	h.start()

	t.Run("an allowed send arrives and is answered", func(t *testing.T) {
		out, errs, exit := h.as(h.agent, h.bin("carapacectl"), "send", "--channel", "loopback", "--to", "echo", "--text", "hi there")
		if exit != 0 {
			t.Fatalf("exit %d\n%s%s\n%s", exit, out, errs, h.logged())
		}
		var history struct {
			Messages []struct{ Direction, Text string }
		}
		h.ask(t, "channel.get_history", map[string]any{"channel": "loopback", "peer": "echo"}, &history)
		if len(history.Messages) != 2 || history.Messages[0].Direction != "out" || history.Messages[1].Direction != "in" || history.Messages[1].Text != "hi there" {
			t.Errorf("history = %+v, want the message and its echo", history.Messages)
		}
	})

	t.Run("a stranger is refused, kept and recorded", func(t *testing.T) {
		_, errs, exit := h.as(h.agent, h.bin("carapacectl"), "send", "--channel", "loopback", "--to", "stranger", "--text", "psst")
		if exit != wire.ExitNotPermitted || !strings.HasPrefix(errs, "carapacectl: refused: ") || !strings.Contains(errs, "carapacectl: hint: ") {
			t.Fatalf("exit %d, stderr %q", exit, errs)
		}
		letters := h.letters()
		if len(letters) != 1 || letters[0].Peer != "stranger" || letters[0].State != journal.StateRefused || !strings.Contains(errs, letters[0].ID) {
			t.Errorf("letters = %+v", letters)
		}
		found := false
		for _, e := range h.records() {
			found = found || e.Kind == journal.KindRefused && e.ID == letters[0].ID && e.Verdict == "deny" && strings.HasPrefix(e.Rule, "config.yaml:")
		}
		if !found {
			t.Error("no record of the refusal")
		}
	})

	t.Run("imsg runs as the service user, with nothing private in argv", func(t *testing.T) {
		out, errs, exit := h.as(h.agent, h.bin("imsg"), "send", "--to", "+1 (555) 123-4567", "--text", "secret words")
		if exit != 0 || out != "sent\n" || errs != "" {
			t.Fatalf("exit %d, stdout %q, stderr %q\n%s", exit, out, errs, h.logged())
		}
		sent := h.delivered()
		if len(sent) != 1 {
			t.Fatalf("sent = %+v", sent)
		}
		s := sent[0]
		if strconv.Itoa(s.UID) != h.service.Uid || s.Buddy != "+15551234567" || s.Text != "secret words" {
			t.Errorf("sent = %+v", s)
		}
		if argv := strings.Join(s.Argv, " "); strings.Contains(argv, "secret") || strings.Contains(argv, "555") {
			t.Errorf("argv = %q", argv)
		}
		for _, e := range s.Env {
			if strings.Contains(e, "CANARY") {
				t.Errorf("the tool inherited %q", e)
			}
		}
	})

	t.Run("a file travels as bytes", func(t *testing.T) {
		before := len(h.delivered())
		picture := filepath.Join(t.TempDir(), "picture.png")
		writeFile(t, picture, bytes.Repeat([]byte("picture "), 100_000), 0o644)
		// The agent can read it only through a folder that lets it in.
		if err := os.Chmod(filepath.Dir(filepath.Dir(picture)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(picture), 0o755); err != nil {
			t.Fatal(err)
		}
		out, errs, exit := h.as(h.agent, h.bin("imsg"), "send", "--to", "+15551234567", "--file", picture)
		if exit != 0 || out != "sent\n" || errs != "" {
			t.Fatalf("exit %d, stdout %q, stderr %q\n%s", exit, out, errs, h.logged())
		}
		sent := h.delivered()[before:]
		want := fmt.Sprintf("%x", sha256.Sum256(bytes.Repeat([]byte("picture "), 100_000)))
		if len(sent) != 1 || sent[0].SHA256 != want || filepath.Base(sent[0].File) != "picture.png" || !strings.HasPrefix(sent[0].File, h.root+"/state/") {
			t.Errorf("sent = %+v, want the bytes of %s, staged by the gateway", sent, picture)
		}
		// A path of the agent's that the gateway could open is still only a word.
		out, _, exit = h.as(h.agent, h.bin("imsg"), "send", "--to", "+15551234567", "--file", h.root+"/state/lock")
		if exit == 0 || len(h.delivered()) != before+1 {
			t.Errorf("exit %d, stdout %q: a file of the gateway's own left", exit, out)
		}
	})

	t.Run("imsg refused", func(t *testing.T) {
		before := len(h.delivered())
		out, errs, exit := h.as(h.agent, h.bin("imsg"), "send", "--to", "+15559999999", "--text", "no")
		if exit != wire.ExitNotPermitted || !strings.HasPrefix(out, "imsg: refused: ") || !strings.HasPrefix(errs, "imsg: hint: ") {
			t.Errorf("exit %d, stdout %q, stderr %q", exit, out, errs)
		}
		if n := len(h.delivered()); n != before {
			t.Errorf("%d messages left, want %d", n, before)
		}
	})

	t.Run("the client can read none of it", func(t *testing.T) {
		for _, path := range []string{"state", "state/audit", "state/outbox.db", "config.yaml", "home", "sent/sent.jsonl", "run/admin.sock"} {
			_, errs, exit := h.as(h.agent, "/bin/cat", filepath.Join(h.root, path))
			if exit == 0 || !strings.Contains(errs, "Permission denied") && !strings.Contains(errs, "No such device") {
				t.Errorf("cat %s: exit %d, %s", path, exit, errs)
			}
		}
		_, errs, exit := h.as(h.agent, "/bin/ls", filepath.Join(h.root, "state"))
		if exit == 0 {
			t.Errorf("ls state: %s", errs)
		}
	})

	t.Run("the log verifies", func(t *testing.T) {
		var report struct {
			OK      bool
			Records int
		}
		if err := h.admin("audit.verify", nil, &report); err != nil || !report.OK || report.Records < 5 {
			t.Errorf("report = %+v, err %v", report, err)
		}
	})

	t.Run("a bad frame harms nobody", func(t *testing.T) {
		for _, frame := range []string{"{", "[]\n", "\x00\xff\n", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}` + "\n", strings.Repeat("x", 2<<20)} {
			c, err := net.Dial("unix", h.socket)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(5 * time.Second))
			c.Write([]byte(frame))
			c.Close()
		}
		out, errs, exit := h.as(h.agent, h.bin("carapacectl"), "ping")
		if exit != 0 {
			t.Errorf("exit %d, %s%s", exit, out, errs)
		}
	})
}

// ask calls a method as the client, from a process of the client's.
func (h *house) ask(t *testing.T, method string, params, result any) {
	t.Helper()
	p, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	out, errs, exit := h.as(h.agent, "/usr/bin/env", "CPTEST_CLIENT=ask", h.bin("sender"), method, string(p))
	if exit != 0 {
		t.Fatalf("%s: exit %d: %s%s", method, exit, out, errs)
	}
	if err := json.Unmarshal([]byte(out), result); err != nil {
		t.Fatalf("%s: %v in %q", method, err, out)
	}
}

const open = `version: 1
clients: [AGENT]
rate:
  global: {requests: 1000000, per: 1s}
  default: {requests: 1000000, per: 1s}
  per_peer: {requests: 1000000, per: 1s}
  attempts: {requests: 1000000, per: 1s, burst: 1000000}
channels:
  loopback:
    enabled: true
    outbound: {mode: open}
    inbound: {mode: open}
  imessage:
    enabled: true
    tool: ROOT/tools/imsg
    outbound: {mode: open}
    inbound: {mode: open}
`

// TestKill kills the daemon again and again while 1,000 messages are being
// sent: nothing is sent twice, nothing is sent without an intent in the log,
// and whatever was promised to the client was done.
func TestKill(t *testing.T) {
	h := newHouse(t, open)
	h.start()
	const messages = 1000
	cmd := exec.Command(h.bin("sender"), "0", strconv.Itoa(messages), "imessage")
	cmd.Env = []string{"CPTEST_CLIENT=send", "CARAPACE_SOCKET=" + h.socket, "CARAPACE_SERVER_UID=" + h.service.Uid}
	cmd.SysProcAttr = credential(h.agent, h.group)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	kills := 0
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("the client failed: %v\n%s", err, errs.String())
			}
			running = false
		case <-time.After(time.Duration(50+rand.IntN(250)) * time.Millisecond):
			if kills < 25 {
				h.kill()
				h.start()
				kills++
			}
		}
	}
	h.kill()
	h.start() // the last recovery
	t.Logf("%d kills", kills)
	if kills == 0 {
		t.Fatal("nothing was killed; the test showed nothing")
	}

	intents, ended := map[string]string{}, map[string]journal.Kind{}
	for _, e := range h.records() {
		switch e.Kind {
		case journal.KindIntent:
			if len(e.Peers) != 1 {
				t.Fatalf("intent %+v", e)
			}
			if old, ok := intents[e.Peers[0]]; ok {
				t.Errorf("%s has two intents: %s and %s", e.Peers[0], old, e.ID)
			}
			intents[e.Peers[0]] = e.ID
		case journal.KindOutcome, journal.KindInterrupted:
			if old, ok := ended[e.ID]; ok {
				t.Errorf("%s has ended twice: %s and %s", e.ID, old, e.Kind)
			}
			ended[e.ID] = e.Kind
		}
	}
	sent := map[string]bool{}
	for _, s := range h.delivered() {
		if sent[s.Buddy] {
			t.Errorf("%s was sent twice", s.Buddy)
		}
		sent[s.Buddy] = true
		if intents[s.Buddy] == "" {
			t.Errorf("%s was sent without an intent", s.Buddy)
		}
	}
	interrupted := map[string]bool{}
	for _, l := range h.letters() {
		if l.State == journal.StateInterrupted {
			interrupted[l.ID] = true
		}
	}
	for peer, id := range intents {
		switch {
		case ended[id] == "":
			t.Errorf("%s: the intent %s has no end", peer, id)
		case ended[id] == journal.KindInterrupted && !interrupted[id]:
			t.Errorf("%s: %s is interrupted and no person will hear of it", peer, id)
		}
	}
	ok := 0
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		peer, how, _ := strings.Cut(line, " ")
		if how == "ok" {
			ok++
			if !sent[peer] {
				t.Errorf("the client was told that %s was sent; it was not", peer)
			}
		}
	}
	t.Logf("%d messages, %d acknowledged, %d sent, %d intents, %d interrupted", messages, ok, len(sent), len(intents), len(interrupted))
	if ok < messages/2 {
		t.Errorf("only %d of %d messages were acknowledged: %s", ok, messages, h.logged())
	}
	var report struct{ OK bool }
	if err := h.admin("audit.verify", nil, &report); err != nil || !report.OK {
		t.Errorf("audit verify: %+v, %v", report, err)
	}
}

func credential(u *user.User, groups ...*user.Group) *syscall.SysProcAttr {
	c := &syscall.Credential{Uid: uint32(atoi(u.Uid)), Gid: uint32(atoi(u.Gid))}
	for _, g := range groups {
		c.Groups = append(c.Groups, uint32(atoi(g.Gid)))
	}
	return &syscall.SysProcAttr{Credential: c, Setsid: true}
}

func (h *house) must(name string, args ...string) {
	h.t.Helper()
	if out, err := exec.Command("/usr/sbin/"+name, args...).CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (h *house) try(name, arg string) {
	if out, err := exec.Command("/usr/sbin/"+name, arg).CombinedOutput(); err != nil {
		h.t.Logf("%s %s: %v %s", name, arg, err, out)
	}
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, data, mode)
}

func writeFile(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
