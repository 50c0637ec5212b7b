//go:build linux

package platform

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func host() *LinuxHost { return NewLinux(Paths{OS: Linux}, nil) }

func TestLookUp(t *testing.T) {
	ctx, l := context.Background(), host()
	u, err := l.User(ctx, "root")
	if err != nil || u.UID != 0 || u.Name != "root" {
		t.Errorf("root is %+v, error %v", u, err)
	}
	if g, err := l.GroupByID(ctx, 0); err != nil || g.Name != "root" {
		t.Errorf("group 0 is %+v, error %v", g, err)
	}
	if all, err := l.Sharers(ctx, 0); err != nil || !slices.Contains(all, "root") {
		t.Errorf("who has group 0: %v, error %v", all, err)
	}
	if gs, err := l.GroupsOf(ctx, "root"); err != nil || !slices.Contains(gs, "root") {
		t.Errorf("root's groups: %v, error %v", gs, err)
	}
	for _, name := range []string{"cptest-nobody-has-this", "0", "12"} { // a number is no name
		if _, err := l.User(ctx, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("user %q: %v", name, err)
		}
		if _, err := l.Group(ctx, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("group %q: %v", name, err)
		}
	}
	for _, name := range []string{"", "-s", "a:b", "a\nb"} {
		if _, err := l.User(ctx, name); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("user %q: %v", name, err)
		}
	}
	for name, ok := range map[string]bool{"root": false, "daemon": false, "nobody": false} {
		u, err := l.User(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Regular(u); (err == nil) != ok {
			t.Errorf("%s is a person's: %v", name, err)
		}
	}
	if m := l.Missing(); len(m) > 0 {
		t.Errorf("missing: %v", m)
	}
}

func TestParse(t *testing.T) {
	for _, line := range []string{"", "a:x:1", "a:x:one:1:::", "a:x:1:one:::", "+::::::", "a:x:-1:1:::", "a:x:4294967296:1:::"} {
		if u, err := parseUser(line); err == nil {
			t.Errorf("user %q: %+v", line, u)
		}
	}
	for _, line := range []string{"", "a:x", "a:x:one:", "a:x:-1:"} {
		if g, err := parseGroup(line); err == nil {
			t.Errorf("group %q: %+v", line, g)
		}
	}
	if g, err := parseGroup("g:x:5:a,b"); err != nil || !slices.Equal(g.Members, []string{"a", "b"}) || g.GID != 5 {
		t.Errorf("got %+v, %v", g, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash")
	f.Add("g:x:5:a,b")
	f.Add("+::::::")
	f.Fuzz(func(t *testing.T, line string) {
		if u, err := parseUser(line); err == nil && strings.Contains(u.Name, ":") {
			t.Errorf("a colon in %q", u.Name)
		}
		if g, err := parseGroup(line); err == nil && slices.Contains(g.Members, "") {
			t.Error("a member without a name")
		}
		parseRecord(line)
	})
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"carapace": true, "carapace-clients": true, "_x9": true, "": false, "-x": false, "Root": false, "a b": false, "9a": false,
		"a\nb": false, "a$": false, strings.Repeat("a", 33): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// accounts are made and removed for real.
func TestAccounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes real users and groups")
	}
	ctx, l := context.Background(), host()
	name := fmt.Sprintf("cptest%07x", rand.Uint32())
	t.Cleanup(func() {
		l.DeleteUser(context.Background(), name, false)
		l.DeleteGroup(context.Background(), name)
	})
	create := func(make func() error) {
		t.Helper()
		for range 20 { // other tests choose ids at the same time
			err := make()
			if err == nil {
				return
			}
			if !errors.Is(err, ErrTaken) {
				t.Fatal(err)
			}
		}
		t.Fatal("every id is taken")
	}
	var g Group
	create(func() (err error) {
		if g.GID, err = l.FreeGID(ctx); err != nil {
			return err
		}
		g.Name = name
		return l.CreateGroup(ctx, g)
	})
	if err := l.CreateGroup(ctx, g); err == nil {
		t.Error("a group was made twice")
	}
	if err := l.CreateGroup(ctx, Group{Name: name + "x", GID: g.GID}); !errors.Is(err, ErrTaken) {
		t.Errorf("a second group of gid %d: %v", g.GID, err)
	}
	u := User{Name: name, GID: g.GID, Gecos: Marker, Home: "/nonexistent", Shell: "/usr/sbin/nologin"}
	create(func() (err error) {
		if u.UID, err = l.FreeUID(ctx); err != nil {
			return err
		}
		return l.CreateUser(ctx, u)
	})
	if locked, err := l.Locked(ctx, name); err != nil || !locked {
		t.Errorf("the account is open: %v", err)
	}
	if err := l.Regular(u); err == nil {
		t.Error("a service account passes for a person's")
	}
	for range 2 {
		if err := l.AddMember(ctx, name, "daemon"); err != nil {
			t.Fatal(err)
		}
	}
	if g, err := l.Group(ctx, name); err != nil || !slices.Equal(g.Members, []string{"daemon"}) {
		t.Errorf("members %v, error %v", g.Members, err)
	}
	if err := l.RemoveMember(ctx, name, "daemon"); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteGroup(ctx, name); err == nil {
		t.Error("the primary group of a user was removed")
	}
	if err := l.DeleteUser(ctx, name, true); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Group(ctx, name); err != nil || got.GID != g.GID {
		t.Errorf("the group did not stay: %+v, %v", got, err)
	}
	for range 2 {
		if err := l.DeleteUser(ctx, name, false); err != nil {
			t.Error(err)
		}
		if err := l.DeleteGroup(ctx, name); err != nil {
			t.Error(err)
		}
	}
}

func TestFreeStaysInTheSystemsRange(t *testing.T) {
	l := host()
	l.LoginDefs = t.TempDir() + "/login.defs"
	text := "# a comment\nSYS_UID_MIN 700\nSYS_UID_MAX\t800\nUID_MIN 5000\n"
	if err := os.WriteFile(l.LoginDefs, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := l.FreeUID(context.Background())
	if err != nil || id < 700 || id > 800 {
		t.Errorf("got %d, %v", id, err)
	}
	if id, err := l.FreeGID(context.Background()); err != nil || id > 999 {
		t.Errorf("gid %d, %v", id, err)
	}
}

func TestProcesses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: runs a process as another user")
	}
	const uid = 54321
	start := func(script string) *exec.Cmd {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		t.Cleanup(func() { cmd.Process.Kill(); <-done })
		return cmd
	}
	ctx := context.Background()
	p := &Proc{Dir: "/proc", Patient: 300 * time.Millisecond}
	willing := start("exec /usr/bin/sleep 1000")
	stubborn := start("trap '' TERM; while :; do /usr/bin/sleep 1; done")
	find := func(pid int) (Process, bool) {
		t.Helper()
		all, err := p.Of(ctx, uid)
		if err != nil {
			t.Fatal(err)
		}
		for _, pr := range all {
			if pr.PID == pid {
				return pr, true
			}
		}
		return Process{}, false
	}
	var pr Process
	for range 500 {
		if pr, _ = find(willing.Process.Pid); strings.HasSuffix(pr.Program, "/sleep") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if pr.UID != uid || pr.Start == "" || pr.Name != "sleep" {
		t.Fatalf("got %+v", pr)
	}
	another := pr
	another.Start = "1"
	if err := p.Terminate(ctx, another); err != nil {
		t.Errorf("a number that was given to another: %v", err)
	}
	if _, ok := find(pr.PID); !ok {
		t.Error("another process was ended in its place")
	}
	if err := p.Terminate(ctx, pr); err != nil {
		t.Error(err)
	}
	if err := p.Terminate(ctx, pr); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
	time.Sleep(200 * time.Millisecond) // its shell sets the trap
	pr, _ = find(stubborn.Process.Pid)
	if err := p.Terminate(ctx, pr); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Errorf("one that will not go: %v", err)
	}
}

// TestHiddenProcess is about a process whose first thread has ended and whose
// others go on: the kernel shows it as a zombie, and it is none.
func TestHiddenProcess(t *testing.T) {
	dir := t.TempDir()
	for pid, threads := range map[string]string{"100": "2", "101": "1"} {
		if err := os.Mkdir(filepath.Join(dir, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"status": "Name:\thider\nState:\tZ (zombie)\nPPid:\t1\nUid:\t54321\t54321\t54321\t54321\nThreads:\t" + threads + "\n",
			"stat":   pid + " (hider) Z" + strings.Repeat(" 1", 40) + "\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, pid, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := (&Proc{Dir: dir}).Of(context.Background(), 54321)
	if err != nil || len(all) != 1 || all[0].PID != 100 {
		t.Errorf("found %+v, error %v; want process 100 alone", all, err)
	}
}
