//go:build linux

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// systemctl stands in for systemd on machines without it, and on machines with
// it, where a test must not start units. It keeps what systemd keeps: the units
// as they were at the last daemon-reload, what runs and what is enabled. It
// refuses what systemd refuses.
const systemctl = `#!/bin/sh
D=ROOT/systemd U=ROOT/etc/systemd/system
verb=$1
for unit; do :; done
known() { grep -qx "$unit" "$D/known" 2>/dev/null; }
case $verb in
show)
	load=not-found active=inactive on=
	known && load=loaded && on=disabled
	[ -e "$D/run.$unit" ] && active=active
	[ -e "$D/on.$unit" ] && on=enabled
	printf 'MainPID=0\nLoadState=%s\nActiveState=%s\nUnitFileState=%s\n' "$load" "$active" "$on"
	exit 0 ;;
esac
[ "$verb" = "$unit" ] && echo "$verb" >>"$D/log" || echo "$verb $unit" >>"$D/log"
case $verb in
daemon-reload) ls "$U" >"$D/known" ;;
enable) [ -e "$U/$unit" ] || { echo "Failed to enable unit: Unit file $unit does not exist." >&2; exit 1; }; : >"$D/on.$unit" ;;
disable) rm -f "$D/on.$unit" ;;
start|restart) known || { echo "Failed to start $unit: Unit $unit not found." >&2; exit 5; }; : >"$D/run.$unit" ;;
stop) known || { echo "Failed to stop $unit: Unit $unit not loaded." >&2; exit 5; }; rm -f "$D/run.$unit" ;;
*) echo "Unknown command verb $verb." >&2; exit 1 ;;
esac
`

func withSystemd(t *testing.T) *site {
	s := newSite(t)
	if err := os.Mkdir(s.path("systemd"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("systemd/systemctl", strings.ReplaceAll(systemctl, "ROOT", s.root), 0o755)
	s.env = append(s.env, "CPTEST_SYSTEMD="+s.path("systemd"))
	s.answer("start: true\n")
	return s
}

// did returns what systemctl was told since the last time.
func (s *site) did() string {
	s.t.Helper()
	text, err := os.ReadFile(s.path("systemd/log"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	os.Remove(s.path("systemd/log"))
	return string(text)
}

func (s *site) units() string {
	s.t.Helper()
	entries, err := os.ReadDir(s.path("systemd"))
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.Contains(e.Name(), ".carapace") {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

const allOn = "on.carapace-rundir.service on.carapace.service run.carapace-rundir.service run.carapace.service"

func TestService(t *testing.T) {
	s := withSystemd(t)
	before := s.snapshot()
	s.install()
	if got := s.units(); got != allOn {
		t.Errorf("units: %s", got)
	}
	s.did()
	s.install()
	if got := s.did(); got != "" {
		t.Errorf("the second install told systemctl\n%s", got)
	}
	s.answer("start: true\nallow: {outbound: {loopback: [echo, x]}}\n")
	s.install()
	if got := s.did(); got != "daemon-reload\nrestart carapace.service\n" {
		t.Errorf("a new configuration told systemctl\n%s", got)
	}
	os.Remove(s.path("systemd/run.carapace.service"))
	s.ok("repair")
	if got := s.units(); got != allOn {
		t.Errorf("units after repair: %s", got)
	}
	s.answer("start: false\n")
	s.install()
	if got := s.units(); got != "" {
		t.Errorf("units after start: false: %s", got)
	}
	s.answer("start: true\n")
	s.install()
	s.did()
	s.purge()
	if got := s.units(); got != "" {
		t.Errorf("units after uninstall: %s", got)
	}
	if got := s.did(); !strings.HasSuffix(got, "daemon-reload\n") {
		t.Errorf("after uninstall systemd was not told: %s", got)
	}
	s.same("after uninstall", before)
}

func TestServiceOfAnother(t *testing.T) {
	s := withSystemd(t)
	s.write("etc/systemd/system/carapace.service", "[Service]\nExecStart=/bin/true\n", 0o644)
	s.must(s.path("systemd/systemctl"), "daemon-reload")
	before := s.snapshot()
	s.fails(wire.ExitConflict, "carapace.service exists, has another content", "install", "--answers", s.answers)
	s.same("after a conflict", before)

	// One whose definition is somewhere else.
	if err := os.Remove(s.path("etc/systemd/system/carapace.service")); err != nil {
		t.Fatal(err)
	}
	s.write("systemd/known", "carapace.service\n", 0o644)
	before = s.snapshot()
	s.fails(wire.ExitConflict, "a service called carapace.service exists", "install", "--answers", s.answers)
	s.same("after a conflict", before)
}

func TestKillMatrixWithServices(t *testing.T) {
	s := withSystemd(t)
	before := s.snapshot()
	install := []string{"install", "--answers", s.answers}
	total := s.actions(install...)
	installed := s.snapshot()
	s.purge()
	tried, good := 0, 0
	for _, n := range every(t, total) {
		tried++
		s.killedAfter(n, install...)
		s.ok(install...)
		s.same("install killed, then install", installed)
		if got := s.units(); got != allOn {
			t.Errorf("killed after %d: units: %s", n, got)
		}
		s.purge()
		s.same("then uninstall", before)
		s.killedAfter(n, install...)
		s.purge()
		s.same("install killed, then uninstall", before)
		if got := s.units(); got != "" {
			t.Errorf("killed after %d, then uninstall: units: %s", n, got)
			continue
		}
		good++
	}
	t.Logf("kill matrix with services: %d/%d", good, tried)
}
