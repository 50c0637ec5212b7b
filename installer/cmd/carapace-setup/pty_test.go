//go:build linux

package main

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// session is a person at a terminal in front of the program.
type session struct {
	s    *site
	tty  *os.File
	wait func() int

	mu   sync.Mutex
	seen bytes.Buffer
	read int
}

func (s *site) sit(env []string, args ...string) *session {
	s.t.Helper()
	cmd := s.command(args...)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.Env = append(cmd.Env, env...)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		s.t.Fatal(err)
	}
	p := &session{s: s, tty: tty}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			p.mu.Lock()
			p.seen.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
			for range bytes.Count(buf[:n], []byte("\x1b[6n")) {
				tty.WriteString("\x1b[7;20R") // where its cursor is, as a terminal says
			}
		}
	}()
	p.wait = func() int {
		cmd.Wait()
		<-ended
		tty.Close()
		return cmd.ProcessState.ExitCode()
	}
	s.t.Cleanup(func() { cmd.Process.Kill() })
	return p
}

// answers waits for a question and types a line.
func (p *session) answers(question, line string) {
	p.s.t.Helper()
	p.waits(question)
	if _, err := p.tty.WriteString(line + "\r"); err != nil {
		p.s.t.Error(err)
	}
}

func (p *session) waits(text string) {
	p.s.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		i := strings.Index(p.seen.String()[p.read:], text)
		if i >= 0 {
			p.read += i + len(text)
		}
		p.mu.Unlock()
		if i >= 0 {
			return
		}
	}
	p.s.t.Fatalf("%q did not appear; on the screen:\n%s", text, p.screen())
}

func (p *session) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

func TestInteractive(t *testing.T) {
	s := newSite(t)
	before := s.snapshot()
	s.install()
	want := s.snapshot()
	s.purge()

	// The accounts of this site, without an answers file: the names are the
	// first installation's, which its receipt would know; so it is told by one
	// that has nothing else.
	s.answer("start: true\nchannels: {loopback: {enabled: true}}\n")
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("a service manager runs here: the test is about a machine without one")
	}
	p := s.sit([]string{"CPTEST_ASK=" + s.answers}, "install")
	p.answers("Whose agents are to use the gateway?", "root")
	p.waits("root is root")
	p.answers("Whose agents", strings.Repeat("\x7f", 40)+"no-such-user")
	p.waits("there is no user no-such-user")
	p.answers("Whose agents", strings.Repeat("\x7f", 40)+s.client)
	p.answers("Enable the channel imessage?", "?")
	p.waits("why: messages go through the real imsg")
	p.answers("Enable the channel imessage?", "y")
	p.answers("Where is the real imsg?", s.path("nowhere"))
	p.waits("no such file")
	p.answers("Where is the real imsg?", strings.Repeat("\x7f", 80)+s.path("tool"))
	p.answers("Who may be written to over imessage?", "+1 555 000 1111, Jane")
	p.waits(`"Jane": `)
	p.answers("Who may be written to over imessage?", strings.Repeat("\x7f", 40)+"+15550001111")
	p.answers("Whose messages over imessage", "")
	p.answers("Enable the channel loopback?", "")
	p.answers("Install without starting the gateway?", "")
	p.waits("make   create group " + s.group)
	p.answers("Proceed?", "e")
	p.waits("the account that holds the credentials")
	p.answers("Proceed?", "maybe")
	p.waits("answer with one of")
	p.answers("Proceed?", strings.Repeat("\x7f", 8)+"y")
	p.waits("create user " + s.service + " … ")
	if code := p.wait(); code != 0 {
		t.Fatalf("exit %d\n%s", code, p.screen())
	}
	s.same("installed by hand, as by answers", want)

	p = s.sit(nil, "uninstall", "--purge")
	p.waits("undo   create user")
	p.answers("delete state, secrets and home?", "")
	if code := p.wait(); code != wire.ExitFailed {
		t.Errorf("no was answered: exit %d\n%s", code, p.screen())
	}
	s.same("after no", want)
	p = s.sit(nil, "uninstall", "--purge")
	p.answers("delete state, secrets and home?", "yes")
	if code := p.wait(); code != 0 {
		t.Errorf("exit %d\n%s", code, p.screen())
	}
	s.same("uninstalled by hand", before)
}

func TestInteractiveNo(t *testing.T) {
	s := newSite(t)
	before := s.snapshot()
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("a service manager runs here: the test is about a machine without one")
	}
	env := []string{"CPTEST_ASK=" + s.answers}
	for _, last := range []func(*session){
		func(p *session) { p.answers("Proceed?", "n") },
		func(p *session) { p.waits("Proceed?"); p.tty.WriteString("\x03") },
		func(p *session) { p.waits("Proceed?"); p.tty.WriteString("\x04") },
	} {
		p := s.sit(env, "install")
		p.answers("Whose agents", "")
		p.answers("imessage?", "n")
		p.answers("loopback?", "")
		p.answers("without starting", "")
		last(p)
		if code := p.wait(); code != wire.ExitFailed || !strings.Contains(p.screen(), "nothing was changed") {
			t.Errorf("exit %d\n%s", code, p.screen())
		}
		s.same("nothing was agreed to", before)
	}
	p := s.sit(env, "install")
	p.waits("Whose agents")
	p.tty.WriteString("\x03")
	if code := p.wait(); code != wire.ExitFailed || !strings.Contains(p.screen(), "interrupted; nothing was changed") {
		t.Errorf("exit %d\n%s", code, p.screen())
	}
	s.same("after Ctrl-C", before)
}

// TestInterruptedByHand presses Ctrl-C in the middle of the steps.
func TestInterruptedByHand(t *testing.T) {
	s := newSite(t)
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("a service manager runs here: the test is about a machine without one")
	}
	before := s.snapshot()
	start := func() *session {
		p := s.sit([]string{"CPTEST_ASK=" + s.answers, "CPTEST_KILL=25", "CPTEST_KILL_BY=INT"}, "install")
		p.answers("Whose agents", "")
		p.answers("imessage?", "n")
		p.answers("loopback?", "")
		p.answers("without starting", "")
		p.answers("Proceed?", "y")
		return p
	}
	p := start()
	p.answers("Interrupted between two steps", "u")
	if code := p.wait(); !strings.Contains(p.screen(), "all that was done was undone") {
		t.Errorf("exit %d\n%s", code, p.screen())
	}
	s.same("after undo", before)
	p = start()
	p.answers("Interrupted between two steps", "s")
	if code := p.wait(); code != wire.ExitPartial {
		t.Errorf("exit %d\n%s", code, p.screen())
	}
	s.purge()
	p = start()
	p.answers("Interrupted between two steps", "g")
	if code := p.wait(); code != 0 {
		t.Errorf("exit %d\n%s", code, p.screen())
	}
	s.purge()
	s.same("after uninstall", before)
}

func TestToolConfirmedByHand(t *testing.T) {
	s := newSite(t)
	s.answer("start: false\n")
	s.install()
	if err := os.Chown(s.path("tool"), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	p := s.sit(nil, "tools", "import", "gog", s.path("tool"))
	p.waits("others than root can write there")
	p.waits("sha256 of")
	p.answers("Is that the program you mean?", "")
	if code := p.wait(); code != wire.ExitFailed {
		t.Errorf("no was answered: exit %d\n%s", code, p.screen())
	}
	p = s.sit(nil, "tools", "import", "gog", s.path("tool"))
	p.answers("Is that the program you mean?", "y")
	if code := p.wait(); code != 0 {
		t.Errorf("exit %d\n%s", code, p.screen())
	}
	s.ok("tools", "check")
	st, err := os.Stat(s.path("usr/local/carapace/tools/gog/gog"))
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the copy: %v, %v", st, err)
	}
}
