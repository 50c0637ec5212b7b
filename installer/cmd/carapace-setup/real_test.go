//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer/probe"
)

// release builds the real programs into the site's release.
func (s *site) release() {
	s.t.Helper()
	if testing.Short() {
		s.t.Skip("-short: builds all programs")
	}
	for name, pkg := range map[string]string{
		"carapace-setup": "installer/cmd/carapace-setup", "carapaced": "gateway/cmd/carapaced",
		"carapacectl": "gateway/cmd/carapacectl", "carapace-shim": "shims/cmd/carapace-shim",
	} {
		if err := os.Remove(filepath.Join(s.dist, name)); err != nil {
			s.t.Fatal(err)
		}
		cmd := exec.Command("go", "build", "-o", filepath.Join(s.dist, name), "github.com/carapace-gateway/carapace/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
}

// as runs a program as a user, as a new login would: with all groups.
func (s *site) as(user, program string, args ...string) (string, int) {
	s.t.Helper()
	cmd := exec.Command("/usr/sbin/runuser", append([]string{"-u", user, "--", program}, args...)...)
	cmd.Dir = "/"
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// gateway starts the installed daemon as the service user, as the summary of
// the installation says.
func (s *site) gateway() (stop func()) {
	s.t.Helper()
	cmd := exec.Command("/usr/sbin/runuser", "-u", s.service, "--", s.prefix+"/libexec/carapaced",
		"--config", s.path("etc/carapace/config.yaml"), "--state", s.path("var/lib/carapace"),
		"--run", s.path("run/carapace"), "--spool", s.path("var/spool/carapace"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	stop = func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	}
	s.t.Cleanup(stop)
	socket := s.path("run/carapace/gateway.sock")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Lstat(socket); err == nil {
			return stop
		}
		select {
		case <-ended:
			s.t.Fatalf("the gateway ended: %s", out.String())
		default:
		}
		if time.Now().After(end) {
			s.t.Fatalf("no socket after 30 s: %s", out.String())
		}
	}
}

// TestRealPrograms installs the real programs for a real user, starts the
// gateway, and has verify try the isolation.
func TestRealPrograms(t *testing.T) {
	s := newSite(t)
	s.release()
	s.env = nil // tried out at the end, as always
	before := s.snapshot()
	s.answer("channels: {loopback: {enabled: true}}\nstart: false\n")
	r := s.install()
	for _, want := range []string{"installed, not started", "rundir", "sudo -u " + s.service} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is not said:\n%s%s", want, r.stdout, r.stderr)
		}
	}
	s.ok("rundir")
	stop := s.gateway()
	if out, code := s.as(s.client, s.prefix+"/bin/carapacectl", "ping"); code != 0 {
		t.Errorf("ping by the client: exit %d: %s", code, out)
	}
	if out, code := s.as("nobody", s.prefix+"/bin/carapacectl", "ping"); code != wire.ExitNotPermitted {
		t.Errorf("ping by nobody: exit %d, want %d: %s", code, wire.ExitNotPermitted, out)
	}
	v := s.setup(nil, "verify", "--json")
	var report probe.Report
	if err := json.Unmarshal([]byte(v.stdout), &report); err != nil {
		t.Fatalf("verify: exit %d: %v\n%s%s", v.code, err, v.stdout, v.stderr)
	}
	for _, c := range report.Checks {
		if c.Class == probe.Fail || c.Class == probe.Unknown && c.Severity == probe.Critical {
			t.Errorf("verify: %s: %s: %s (%s)", c.Class, c.ID, c.Evidence, c.Remedy)
		}
	}
	if v.code != 0 || !report.OK || report.Client != s.client {
		t.Errorf("verify: exit %d, ok %t, client %s\n%s", v.code, report.OK, report.Client, v.stderr)
	}
	if r := s.install(); !strings.HasPrefix(r.stdout, "installed; nothing had to be changed\n") || !strings.Contains(r.stdout, "start it anew") {
		t.Errorf("the second install, with a gateway that runs:\n%s%s", r.stdout, r.stderr)
	}
	if st := s.ok("status"); !strings.Contains(st.stdout, "gateway: running") {
		t.Errorf("status: %s", st.stdout)
	}
	if out, code := s.as(s.client, s.prefix+"/bin/carapace-setup", "status"); code != 0 || !strings.Contains(out, "gateway: running") {
		t.Errorf("status by the client: exit %d\n%s", code, out)
	}
	if out, code := s.as("nobody", s.prefix+"/bin/carapace-setup", "uninstall", "--yes"); code != wire.ExitNotPermitted {
		t.Errorf("uninstall by nobody: exit %d\n%s", code, out)
	}
	// Uninstall ends the gateway that was started by hand.
	s.purge()
	stop()
	s.same("after uninstall", before)
}

func TestClientWhoCanBecomeRoot(t *testing.T) {
	s := newSite(t)
	s.release()
	s.env = nil
	s.answer("channels: {loopback: {enabled: true}}\nstart: false\n")
	s.must("/usr/sbin/usermod", "--append", "--groups", "disk", s.client)
	r := s.fails(wire.ExitFailed, "installed, isolation NOT real", "install", "--answers", s.answers)
	if !strings.Contains(r.stderr, "hint: run the agent as a user who cannot become root, or accept it: --accept-admin-client") {
		t.Errorf("no cure is named:\n%s", r.stderr)
	}
	s.ok("install", "--answers", s.answers, "--accept-admin-client")
	s.ok("install", "--answers", s.answers) // it is recorded
	if st := s.ok("status"); !strings.Contains(st.stdout, "accepted: a client can become root") {
		t.Errorf("status: %s", st.stdout)
	}
}

// TestDaemonThatDoesNotCome installs with a service manager that starts
// nothing: that is no success.
func TestDaemonThatDoesNotCome(t *testing.T) {
	s := withSystemd(t)
	s.release()
	s.env = []string{"CPTEST_SYSTEMD=" + s.path("systemd"), "CPTEST_PATIENCE=200ms"}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r := s.fails(wire.ExitFailed, "installed, not verified", "install", "--answers", s.answers)
	if ctx.Err() != nil || !strings.Contains(r.stderr, "the gateway is not running") {
		t.Error(fmt.Sprint("the cause is not named:\n", r.stderr))
	}
}
