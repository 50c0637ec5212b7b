package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// TestChildIsAlone looks at a child from the inside: no descriptor, no group,
// no variable and no privilege comes with it.
func TestChildIsAlone(t *testing.T) {
	s := newSite(t)
	// A descriptor as a shell would leave it open for us.
	const leak = 197
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if err := unix.Dup2(pipe[0], leak); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	t.Setenv("CARAPACE_SOCKET", "/nowhere")

	v := &verifier{t: s.target, root: true, walk: &walker{os: Linux}, program: s.target.SelfExe}
	ans, err := v.ask(context.Background(), s.client, []op{
		{Do: doLstat, Path: fmt.Sprintf("/proc/self/fd/%d", leak)},
		{Do: doLstat, Path: "/proc/self/fd/0"},
		{Do: doRun, Args: []string{"/usr/bin/env"}},
		{Do: doRun, Args: []string{"/bin/pwd"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := ans.Results[0]; r.Errno != "ENOENT" && r.Errno != "EACCES" {
		t.Errorf("descriptor %d came along: %+v", leak, r)
	}
	if got, want := ans.Results[2].Text, strings.Join(childEnv(), "\n"); strings.TrimSpace(got) != want {
		t.Errorf("environment %q, want %q", got, want)
	}
	if got := strings.TrimSpace(ans.Results[3].Text); got != "/" {
		t.Errorf("folder %q", got)
	}
	if ans.UID != s.client.uid || ans.GID != s.client.gid || !slices.Equal(ans.Groups, []int{int(s.clients)}) {
		t.Errorf("uid %d, gid %d, groups %v", ans.UID, ans.GID, ans.Groups)
	}
	if ans, err := v.ask(context.Background(), stranger(), []op{{Do: doLstat, Path: "/"}}); err != nil || len(ans.Groups) != 0 {
		t.Errorf("nobody has groups %v, %v", ans.Groups, err)
	}
	if _, err := v.ask(context.Background(), ident{name: "root"}, []op{{Do: doLstat, Path: "/"}}); err == nil {
		t.Error("a probe ran as root")
	}
}

// TestChildDeadline shows that a child that hangs is ended, with what it
// started, and proves nothing.
func TestChildDeadline(t *testing.T) {
	s := newSite(t)
	slow := s.at("p/bin/slow")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\nsleep 600 & wait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	v := &verifier{t: s.target, root: true, walk: &walker{os: Linux}, program: slow}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := v.ask(ctx, s.client, []op{{Do: doLstat, Path: "/"}}); err == nil {
		t.Error("a child that said nothing was believed")
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := processesOf(t, s.client.uid)
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", left)
		}
	}
	v.program = "/bin/echo"
	if o := v.refused(context.Background(), s.client, []op{{Do: doLstat, Path: "/"}}, "", "EACCES"); o.class != Unknown {
		t.Errorf("a child that is no probe gave %+v", o)
	}
}

func processesOf(t *testing.T, uid uint32) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(dirs, func(dir string) bool {
		var st unix.Stat_t
		return unix.Lstat(dir, &st) != nil || st.Uid != uid
	})
}

// TestChildRefuses runs the child with what it must not take.
func TestChildRefuses(t *testing.T) {
	s := newSite(t)
	run := func(who *ident, stdin string, args ...string) (int, string) {
		cmd := exec.Command(s.target.SelfExe, append([]string{Subcommand}, args...)...)
		cmd.Dir = "/"
		cmd.Stdin = strings.NewReader(stdin)
		if who != nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: who.uid, Gid: who.gid}}
		}
		out, _ := cmd.Output()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	good, err := json.Marshal(request{Protocol: protocol, Control: "/nowhere", Program: s.target.SelfExe, Ops: []op{{Do: doLstat, Path: "/"}}})
	if err != nil {
		t.Fatal(err)
	}
	if code, out := run(nil, string(good)); code != wire.ExitNotPermitted || out != "" {
		t.Errorf("as root: %d %q", code, out)
	}
	for _, args := range [][]string{{"as", "0", "1", ""}, {"as", "1", "0", ""}, {"as", "x", "1", ""}, {"as", "1", "1", "x"}, {"as", "-1", "1", ""}} {
		if code, out := run(nil, string(good), args...); code != wire.ExitFailed || out != "" {
			t.Errorf("%q as root: %d %q", args, code, out)
		}
	}
	if code, out := run(&s.client, string(good), "as", "1", "1", ""); code != wire.ExitUsage || out != "" {
		t.Errorf("the client would become another: %d %q", code, out)
	}
	if code, _ := run(&s.client, string(good)); code != 0 {
		t.Errorf("as the client: %d", code)
	}
	for name, stdin := range map[string]string{"nothing": "", "no JSON": "x", "another protocol": `{"protocol":2}`,
		"an unknown member": `{"protocol":1,"shell":"sh"}`} {
		if code, out := run(&s.client, stdin); code != wire.ExitUsage || out != "" {
			t.Errorf("%s: %d %q", name, code, out)
		}
	}
	if code, _ := run(&s.client, string(good), "more"); code != wire.ExitUsage {
		t.Errorf("an argument: %d", code)
	}
}

// TestHidden shows that other programs of the same user cannot look into a
// probe that has begun.
func TestHidden(t *testing.T) {
	s := newSite(t)
	cmd := exec.Command(s.target.SelfExe, Subcommand)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.client.uid, Gid: s.client.gid, Groups: s.client.groups}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	// It waits for its request; by then it is hidden. Root sees it in the
	// owner of its files.
	environ := fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid)
	for i := 0; ; i++ {
		var st unix.Stat_t
		if err := unix.Stat(environ, &st); err != nil {
			t.Fatal(err)
		}
		if st.Uid == 0 {
			break
		}
		if i > 20_000 {
			t.Fatal("the probe did not hide")
		}
		if err := syscall.Kill(cmd.Process.Pid, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	v := &verifier{t: s.target, root: true, walk: &walker{os: Linux}, program: s.target.SelfExe, server: wire.Identity{PID: int32(cmd.Process.Pid)}}
	if o := v.refused(context.Background(), s.client, v.memoryOps(), "", "EACCES"); o.class != Pass {
		t.Errorf("memory: %s: %s", o.class, o.evidence)
	}
	if o := v.processTrace(context.Background()); o.class != Pass {
		t.Errorf("trace: %s: %s", o.class, o.evidence)
	}
}
