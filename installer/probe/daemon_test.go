package probe

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRealDaemon runs every check against the gateway itself in place of the
// stand-in: what it answers, records and is, and not what we think of it.
func TestRealDaemon(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the gateway: not with -short")
	}
	s := newSite(t)
	s.stop()
	program := s.at("p/libexec/carapaced")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "github.com/carapace-gateway/carapace/gateway/cmd/carapaced")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the gateway: %v\n%s", err, out)
	}
	s.own(t, program, 0, 0, 0o755)
	for i, f := range s.target.Facts.Files {
		if strings.HasSuffix(f.Path, "carapaced") {
			sum, err := (&walker{}).files.Hash(program)
			if err != nil {
				t.Fatal(err)
			}
			s.target.Facts.Files[i].SHA256 = sum
		}
	}
	config := "version: 1\nclients: [" + s.client.name + "]\nchannels:\n  loopback:\n    enabled: true\n" +
		"    outbound: {mode: allowlist, allow: [echo], otherwise: deny}\n    inbound: {mode: allowlist, allow: [echo], otherwise: drop}\n"
	if err := os.WriteFile(s.at("etc/config.yaml"), []byte(config), 0o640); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.Command(program, "--config", s.at("etc/config.yaml"), "--state", s.at("state"), "--run", s.at("run"), "--spool", s.at("spool"))
	cmd.Dir, cmd.Env = "/", childEnv()
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true,
		Credential: &syscall.Credential{Uid: s.service.uid, Gid: s.service.gid, Groups: s.service.groups}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.daemon = cmd
	t.Cleanup(func() { s.stopDaemon(cmd) })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := identify(s.target.Facts.Socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			s.stop()
			t.Fatalf("the gateway did not start:\n%s", log.String())
		}
	}
	for _, only := range [][]string{nil, {"live.send", "live.refused", "live.queue", "live.audit"}} {
		for _, c := range s.verify(t, only...).Checks {
			if c.Class != Pass {
				t.Errorf("%s: %s: %s", c.ID, c.Class, c.Evidence)
			}
		}
	}
	if entries, err := filepath.Glob(s.at("state/*")); err != nil || len(entries) == 0 {
		t.Errorf("the gateway kept nothing: %v, %v", entries, err)
	}
}
