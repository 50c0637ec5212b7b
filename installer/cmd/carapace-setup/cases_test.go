//go:build linux

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer/plan"
)

func (s *site) path(name string) string { return filepath.Join(s.root, name) }

func (s *site) read(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

func (s *site) mode(name string) string {
	s.t.Helper()
	return strings.TrimSpace(s.must("/usr/bin/stat", "-c", "%U:%G %a", s.path(name)))
}

func TestWhatIsInstalled(t *testing.T) {
	s := newSite(t)
	s.install()
	for name, want := range map[string]string{
		"usr/local/carapace":                         "root:root 755",
		"usr/local/carapace/bin/carapace-shim":       "root:root 755",
		"usr/local/carapace/bin/imsg":                "root:root 755",
		"usr/local/carapace/libexec/carapaced":       "root:root 755",
		"usr/local/carapace/tools/imsg/imsg":         "root:root 755",
		"usr/local/carapace/share/install.json":      "root:root 644",
		"etc/carapace":                               "root:" + s.service + " 750",
		"etc/carapace/config.yaml":                   "root:" + s.service + " 640",
		"etc/carapace/secrets":                       "root:" + s.service + " 750",
		"var/lib/carapace":                           s.service + ":" + s.service + " 700",
		"var/lib/carapace-home":                      s.service + ":" + s.service + " 700",
		"var/lib/carapace-setup":                     "root:root 700",
		"var/lib/carapace-setup/receipt.json":        "root:root 600",
		"var/spool/carapace":                         "root:root 711",
		"var/spool/carapace/" + s.client:             s.service + ":" + s.client + " 2750",
		"run/carapace":                               s.service + ":" + s.group + " 750",
		"etc/systemd/system/carapace.service":        "root:root 644",
		"etc/systemd/system/carapace-rundir.service": "root:root 644",
		"etc/profile.d/carapace.sh":                  "root:root 644",
	} {
		if got := s.mode(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	facts, err := wire.ReadInstallFacts(s.path("usr/local/carapace/share/install.json"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{s.client}, facts.Clients); d != "" {
		t.Errorf("clients (-want +got):\n%s", d)
	}
	if facts.Socket != s.path("run/carapace/gateway.sock") || facts.ServiceUser != s.service || facts.ServiceUID == 0 {
		t.Errorf("the facts are %+v", facts)
	}
	if len(facts.Files) != 6 { // four programs, one link, one tool
		t.Errorf("the facts name %d files: %v", len(facts.Files), facts.Files)
	}
	if c := s.read("etc/carapace/config.yaml"); !strings.Contains(c, s.path("usr/local/carapace/tools/imsg/imsg")) || !strings.Contains(c, "+15550001111") {
		t.Errorf("the configuration says\n%s", c)
	}
	if u := s.read("etc/systemd/system/carapace.service"); !strings.Contains(u, s.path("var/lib/carapace-home")) {
		t.Errorf("the unit does not let the home be written:\n%s", u)
	}
	if got := s.must("/usr/bin/id", "-Gn", s.service); strings.TrimSpace(got) != s.service+" "+s.group {
		t.Errorf("the service user is in %s", got)
	}
	if got := s.must("/usr/bin/passwd", "--status", s.service); !strings.Contains(got, " L ") {
		t.Errorf("the service user's password: %s", got)
	}
	if r, err := os.ReadFile(s.path("var/lib/carapace-setup/receipt.json")); err != nil || !json.Valid(r) {
		t.Errorf("the receipt: %v", err)
	}
	var st map[string]any
	if err := json.Unmarshal([]byte(s.ok("status", "--json").stdout), &st); err != nil {
		t.Fatal(err)
	}
	if st["installed"] != true || st["complete"] != true || st["gateway"] != "not running" {
		t.Errorf("status: %v", st)
	}
}

func TestConflictsAreReportedAtOnce(t *testing.T) {
	s := newSite(t)
	s.must("/usr/sbin/groupadd", "--system", s.group)
	s.write("etc/profile.d/carapace.sh", "somebody else's\n", 0o644)
	if err := os.MkdirAll(s.path("usr/local/carapace/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("usr/local/carapace/bin/imsg", "mine\n", 0o755)
	if err := os.Symlink("/etc", s.path("var/lib/carapace")); err != nil {
		t.Fatal(err)
	}
	before := s.snapshot()
	r := s.fails(wire.ExitConflict, "group "+s.group+" exists", "install", "--answers", s.answers)
	for _, want := range []string{
		"profile.d/carapace.sh exists, has another content", "bin/imsg exists", "var/lib/carapace is a symbolic link", "hint: ", "--adopt",
	} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("nothing about %q in\n%s", want, r.stderr)
		}
	}
	s.same("after a conflict", before)
}

func TestParentOfThePrefix(t *testing.T) {
	s := newSite(t)
	if err := os.Chmod(s.path("usr/local"), 0o2775); err != nil {
		t.Fatal(err)
	}
	before := s.snapshot()
	s.fails(wire.ExitConflict, "--prefix /opt/carapace", "install", "--answers", s.answers)
	s.same("after a conflict", before)
	s.ok("install", "--answers", s.answers, "--prefix", s.path("opt"))
	if got := s.mode("opt/bin/carapacectl"); got != "root:root 755" {
		t.Errorf("carapacectl is %s", got)
	}
	s.fails(wire.ExitConflict, "an installation with", "install", "--answers", s.answers, "--prefix", s.path("other"))
	s.purge()
	s.same("after uninstall", before)
}

func TestStartWithoutServiceManager(t *testing.T) {
	s := newSite(t)
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("a service manager runs here")
	}
	before := s.snapshot()
	s.answer("start: true\n")
	s.fails(wire.ExitConflict, "start: false", "install", "--answers", s.answers)
	s.same("after a conflict", before)
}

func TestAdopt(t *testing.T) {
	s := newSite(t)
	s.must("/usr/sbin/groupadd", "--system", s.service)
	s.must("/usr/sbin/useradd", "--system", "--gid", s.service, "--no-create-home", "--shell", "/bin/bash",
		"--home-dir", s.path("var/lib/carapace-home"), s.service)
	before := s.snapshot()
	r := s.fails(wire.ExitConflict, "its shell is /bin/bash", "install", "--answers", s.answers, "--adopt")
	if strings.Contains(r.stderr, "may be used") {
		t.Error("an account with differences is offered for adoption")
	}
	s.same("after a conflict", before)
	s.must("/usr/sbin/usermod", "--shell", "/usr/sbin/nologin", s.service)
	before = s.snapshot()
	s.fails(wire.ExitConflict, "--adopt", "install", "--answers", s.answers)
	s.ok("install", "--answers", s.answers, "--adopt")
	s.install() // it need not be said again
	s.purge()
	s.same("what was adopted stays", before)
	s.must("/usr/sbin/usermod", "--password", "", s.service)
	s.fails(wire.ExitConflict, "a password lets people in", "install", "--answers", s.answers, "--adopt")
	s.must("/usr/sbin/usermod", "--lock", s.service)
	s.must("/usr/sbin/usermod", "--append", "--groups", "daemon", s.service)
	s.fails(wire.ExitConflict, "it is in group daemon", "install", "--answers", s.answers, "--adopt")
}

func TestKeptAndTakenUpAgain(t *testing.T) {
	s := newSite(t)
	before := s.snapshot()
	s.install()
	installed := s.snapshot()
	s.must("/usr/bin/install", "-o", s.service, "-g", s.service, "-m", "600", "/dev/null", s.path("var/lib/carapace/audit"))
	s.must("/usr/bin/install", "-o", "root", "-g", s.service, "-m", "640", "/dev/null", s.path("etc/carapace/secrets/discord"))
	s.write("etc/carapace/config.yaml", s.read("etc/carapace/config.yaml")+"# mine\n", 0o640)
	r := s.ok("uninstall")
	for _, want := range []string{"var/lib/carapace\n", "secrets\n", "config.yaml\n"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is not named as kept in\n%s", want, r.stdout)
		}
	}
	for name, want := range map[string]string{
		"var/lib/carapace": "root:root 700", "var/lib/carapace/audit": "root:root 600",
		"etc/carapace": "root:root 700", "etc/carapace/secrets/discord": "root:root 640",
	} {
		if got := s.mode(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if _, err := os.Stat(s.path("usr/local/carapace")); !os.IsNotExist(err) {
		t.Errorf("the programs are still there: %v", err)
	}
	if st := s.ok("status"); !strings.Contains(st.stdout, "not installed; kept") {
		t.Errorf("status: %s", st.stdout)
	}
	if r := s.install(); !strings.Contains(r.stderr, "changed by a person") {
		t.Errorf("nothing is said about the edited configuration:\n%s", r.stderr)
	}
	if got := s.mode("var/lib/carapace/audit"); got != s.service+":"+s.service+" 600" {
		t.Errorf("the audit log is %s", got)
	}
	if got := s.mode("etc/carapace/secrets/discord"); got != "root:"+s.service+" 640" {
		t.Errorf("the token is %s", got)
	}
	if !strings.HasSuffix(s.read("etc/carapace/config.yaml"), "# mine\n") {
		t.Error("the person's words are lost")
	}
	snap := s.snapshot()
	for _, name := range []string{"file var/lib/carapace/audit", "file etc/carapace/secrets/discord"} {
		delete(snap, name)
	}
	snap["file etc/carapace/config.yaml"] = installed["file etc/carapace/config.yaml"]
	snap["file var/lib/carapace-setup/receipt.json"] = installed["file var/lib/carapace-setup/receipt.json"]
	if d := cmp.Diff(installed, snap); d != "" {
		t.Errorf("after taking it up again (-want +got):\n%s", d)
	}
	s.ok("uninstall", "--yes")
	s.purge()
	s.same("after uninstall and uninstall --purge", before)
}

func TestChangedAnswers(t *testing.T) {
	s := newSite(t)
	before := s.snapshot()
	s.install()
	s.answer("channels: {imessage: {enabled: false}, loopback: {enabled: true}}\nallow: {outbound: {loopback: [echo, somebody]}}\nstart: false\n")
	s.install()
	if _, err := os.Stat(s.path("usr/local/carapace/bin/imsg")); !os.IsNotExist(err) {
		t.Errorf("the link of a disabled channel is still there: %v", err)
	}
	if c := s.read("etc/carapace/config.yaml"); !strings.Contains(c, "somebody") {
		t.Errorf("the new answers are not in the configuration:\n%s", c)
	}
	s.write("dist/carapace-shim", "a newer shim\n", 0o755)
	s.answer("channels: {imessage: {enabled: true, tool: " + s.root + "/tool}}\nstart: false\n")
	s.install()
	if s.read("usr/local/carapace/bin/imsg") != "a newer shim\n" {
		t.Error("the link is one of the old shim")
	}
	facts := s.read("usr/local/carapace/share/install.json")
	s.write("dist/carapaced", "a newer daemon\n", 0o755)
	s.install()
	if s.read("usr/local/carapace/share/install.json") == facts {
		t.Error("the facts still have the hash of the old daemon")
	}
	s.purge()
	s.same("after uninstall", before)
}

func TestRepair(t *testing.T) {
	s := newSite(t)
	s.fails(wire.ExitFailed, "not installed", "repair")
	s.install()
	installed := s.snapshot()
	for _, damage := range []func(){
		func() { s.write("usr/local/carapace/bin/carapacectl", "evil\n", 0o755) },
		func() { os.Chmod(s.path("var/lib/carapace"), 0o777) },
		func() { os.Remove(s.path("usr/local/carapace/bin/imsg")) },
		func() { os.RemoveAll(s.path("run/carapace")) },
		func() { s.must("/usr/bin/gpasswd", "--delete", s.client, s.group) },
		func() { os.Remove(s.path("etc/profile.d/carapace.sh")) },
		func() { os.Chown(s.path("usr/local/carapace/libexec"), 1, 1) },
		func() { s.write("usr/local/carapace/tools/imsg/imsg", "evil\n", 0o755) },
		func() { os.Remove(s.path("usr/local/carapace/share/install.json")) },
		func() { os.RemoveAll(s.path("var/spool/carapace/" + s.client)) },
	} {
		damage()
		s.ok("repair")
		s.same("after repair", installed)
	}
}

func TestForeignThingsStay(t *testing.T) {
	s := newSite(t)
	s.install()
	s.write("usr/local/carapace/bin/mine", "mine\n", 0o755)
	s.write("usr/local/carapace/bin/carapacectl", "replaced by hand\n", 0o755)
	r := s.fails(wire.ExitPartial, "holds carapacectl, mine", "uninstall", "--yes", "--purge")
	if !strings.Contains(r.stderr, "has a content that is not ours") {
		t.Errorf("the replaced program is not named:\n%s", r.stderr)
	}
	if s.read("usr/local/carapace/bin/mine") != "mine\n" {
		t.Error("a foreign file is gone")
	}
	if st := s.fails(wire.ExitPartial, "not finished", "status"); st.code != wire.ExitPartial {
		t.Errorf("status: %d", st.code)
	}
	os.Remove(s.path("usr/local/carapace/bin/mine"))
	os.Remove(s.path("usr/local/carapace/bin/carapacectl"))
	s.purge()
}

func TestAccountOfAnotherIsNotRemoved(t *testing.T) {
	s := newSite(t)
	s.install()
	s.must("/usr/sbin/usermod", "--comment", "somebody else", s.service)
	s.fails(wire.ExitPartial, "it is not the one we made", "uninstall", "--yes", "--purge")
	s.must("/usr/bin/id", s.service)
	s.must("/usr/sbin/usermod", "--comment", "Carapace gateway", s.service)
	s.purge()
}

func TestUninstallAndProcesses(t *testing.T) {
	s := newSite(t)
	sleep, err := os.ReadFile("/usr/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	s.write("dist/carapaced", string(sleep), 0o755)
	s.install()
	facts, err := wire.ReadInstallFacts(s.path("usr/local/carapace/share/install.json"))
	if err != nil {
		t.Fatal(err)
	}
	start := func(program string) *exec.Cmd {
		cmd := exec.Command(program, "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: facts.ServiceUID, Gid: facts.ServiceUID}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		t.Cleanup(func() { cmd.Process.Kill(); <-done })
		return cmd
	}
	foreign := start("/usr/bin/sleep")
	start(s.path("usr/local/carapace/libexec/carapaced"))
	before := s.snapshot()
	s.fails(wire.ExitConflict, "(sleep)", "uninstall", "--yes", "--purge")
	s.same("after a conflict", before)
	foreign.Process.Kill()
	time.Sleep(100 * time.Millisecond)
	s.purge()
}

func TestLock(t *testing.T) {
	s := newSite(t)
	unlock, err := plan.Lock(s.path("var/lib/carapace-setup"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for _, args := range [][]string{{"install", "--answers", s.answers}, {"uninstall", "--yes"}, {"repair"}} {
		s.fails(wire.ExitTryLater, "another run", args...)
	}
}

func TestInterruptStopsBetweenSteps(t *testing.T) {
	s := newSite(t)
	before := s.snapshot()
	r := s.setup([]string{"CPTEST_KILL=20", "CPTEST_KILL_BY=INT"}, "install", "--answers", s.answers)
	if r.code != wire.ExitPartial || !strings.Contains(r.stderr, "stopped between two steps") {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
	s.fails(wire.ExitPartial, "not finished", "status")
	s.purge()
	s.same("after uninstall", before)
}

func TestReceiptOfAnotherProgram(t *testing.T) {
	s := newSite(t)
	s.install()
	file := "var/lib/carapace-setup/receipt.json"
	good := s.read(file)
	for what, bad := range map[string]string{
		"schema": strings.Replace(good, `"schema": 1`, `"schema": 99`, 1),
		"kind":   strings.Replace(good, `"kind": "dir"`, `"kind": "teleport"`, 1),
		"field":  strings.Replace(good, `"shell"`, `"porpoise"`, 1),
		"cut":    good[:len(good)/2],
	} {
		s.write(file, bad, 0o600)
		before := s.snapshotWithout(file)
		for _, args := range [][]string{{"install", "--answers", s.answers}, {"uninstall", "--yes", "--purge"}} {
			if r := s.setup(nil, args...); r.code != wire.ExitConflict {
				t.Errorf("%s, %s: exit %d, want %d\n%s", what, args[0], r.code, wire.ExitConflict, r.stderr)
			}
		}
		if d := cmp.Diff(before, s.snapshotWithout(file)); d != "" {
			t.Errorf("%s: something was touched (-want +got):\n%s", what, d)
		}
	}
	s.write(file, good, 0o600)
	s.purge()
}

func (s *site) snapshotWithout(file string) map[string]string {
	s.t.Helper()
	text := s.read(file)
	if err := os.Remove(s.path(file)); err != nil {
		s.t.Fatal(err)
	}
	snap := s.snapshot()
	s.write(file, text, 0o600)
	return snap
}

func TestSpoolForSharedGroup(t *testing.T) {
	s := newSite(t)
	s.must("/usr/sbin/usermod", "--gid", "users", s.client)
	s.install()
	dir := "var/spool/carapace/" + s.client
	if got := s.mode(dir); got != s.service+":"+s.service+" 750" {
		t.Fatalf("%s is %s", dir, got)
	}
	s.must("/usr/bin/install", "-o", s.service, "-g", s.service, "-m", "640", "/dev/null", s.path(dir+"/in"))
	as := func(user, test string, name string) bool {
		return exec.Command("/usr/sbin/runuser", "-u", user, "--", "/usr/bin/test", test, s.path(name)).Run() == nil
	}
	if !as(s.client, "-r", dir) || !as(s.client, "-x", dir) || as(s.client, "-w", dir) {
		t.Error("the client cannot read its spool, or can write it")
	}
	if as("nobody", "-r", dir) || as("nobody", "-x", dir) {
		t.Error("a stranger can read the spool")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	if r := s.setup([]string{"CPTEST_TRACE=" + trace}, "install", "--answers", s.answers); r.code != 0 {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
	if done, err := os.ReadFile(trace); err == nil {
		t.Errorf("the second install changed something:\n%s", done)
	}
	s.purge()
}

func TestTools(t *testing.T) {
	s := newSite(t)
	s.answer("start: false\n")
	s.fails(wire.ExitFailed, "not installed", "tools", "import", "imsg", s.path("tool"))
	s.install()
	vault := "usr/local/carapace/tools/gog/gog"
	r := s.ok("tools", "import", "gog", s.path("tool"))
	if got := s.mode(vault); got != "root:root 755" {
		t.Errorf("the copy is %s", got)
	}
	sum := strings.Fields(r.stdout)[2]
	if l := s.ok("tools", "list"); !strings.Contains(l.stdout, sum) {
		t.Errorf("list: %s", l.stdout)
	}
	s.ok("tools", "check")
	s.install() // an import is not undone by the next install
	s.ok("tools", "check")

	// Not root's alone: only with its hash, never with --yes alone.
	if err := os.Chown(s.path("tool"), 12345, 0); err != nil {
		t.Fatal(err)
	}
	s.fails(wire.ExitConflict, "others than root can write", "tools", "import", "gog", s.path("tool"), "--yes")
	s.fails(wire.ExitConflict, "others than root can write", "tools", "import", "gog", s.path("tool"))
	s.fails(wire.ExitConflict, "and not "+strings.Repeat("0", 64), "tools", "import", "gog", s.path("tool"), "--sha256", strings.Repeat("0", 64))
	s.ok("tools", "import", "gog", s.path("tool"), "--sha256", sum)
	s.answer("channels: {imessage: {enabled: true, tool: " + s.root + "/tool}}\nstart: false\n")
	s.fails(wire.ExitConflict, "sha256: beside tool:", "install", "--answers", s.answers)
	s.answer("channels: {imessage: {enabled: true, tool: " + s.root + "/tool, sha256: " + sum + "}}\nstart: false\n")
	s.install()

	s.write("script", "#!/bin/sh\n", 0o755)
	s.fails(wire.ExitConflict, "is a script", "tools", "import", "other", s.path("script"))
	s.write(vault, "evil\n", 0o755)
	s.fails(wire.ExitFailed, "BAD", "tools", "check")
	s.ok("tools", "import", "gog", s.path("tool"), "--sha256", sum)
	s.ok("tools", "check")
}

func TestRundir(t *testing.T) {
	s := newSite(t)
	s.fails(wire.ExitFailed, "not installed", "rundir")
	s.install()
	run := s.path("run/carapace")
	want := s.service + ":" + s.group + " 750"
	s.ok("rundir")
	if err := os.RemoveAll(run); err != nil {
		t.Fatal(err)
	}
	s.ok("rundir")
	if got := s.mode("run/carapace"); got != want {
		t.Errorf("the folder is %s, want %s", got, want)
	}
	for what, spoil := range map[string]func() error{
		"open":  func() error { return os.Chmod(run, 0o777) },
		"other": func() error { return os.Chown(run, 12345, 12345) },
		"link":  func() error { os.RemoveAll(run); return os.Symlink("/etc", run) },
		"file":  func() error { os.RemoveAll(run); return os.WriteFile(run, nil, 0o600) },
		"full":  func() error { os.RemoveAll(run); return os.MkdirAll(run+"/x", 0o755) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if r := s.setup(nil, "rundir"); r.code != wire.ExitConflict || !strings.Contains(r.stderr, "hint: ") {
			t.Errorf("%s: exit %d\n%s", what, r.code, r.stderr)
		}
		os.RemoveAll(run)
		s.ok("rundir")
	}
	// What it leaves itself when it is killed after mkdir.
	if err := os.RemoveAll(run); err != nil {
		t.Fatal(err)
	}
	s.killedAfter(1, "rundir")
	s.ok("rundir")
	if got := s.mode("run/carapace"); got != want {
		t.Errorf("the folder is %s, want %s", got, want)
	}
	if err := os.Chmod(s.path("run"), 0o777); err != nil {
		t.Fatal(err)
	}
	s.fails(wire.ExitConflict, "has mode 0777", "rundir")
}

// TestAdoptedGroupOutlivesTheUser: userdel takes a group of the user's name
// with it, and this one was not made by us.
func TestAdoptedGroupOutlivesTheUser(t *testing.T) {
	s := newSite(t)
	s.must("/usr/sbin/groupadd", "--system", s.service)
	before := s.snapshot()
	s.fails(wire.ExitConflict, "--adopt", "install", "--answers", s.answers)
	s.ok("install", "--answers", s.answers, "--adopt")
	s.purge()
	s.same("after uninstall", before)
}

func TestOpenClawIsAWarning(t *testing.T) {
	s := newSite(t)
	s.env = nil
	s.answer("openclaw: true\nstart: false\n")
	// The programs are stand-ins: what needs them is unknown, nothing fails.
	s.fails(wire.ExitPartial, "this version does not point OpenClaw at the shims", "install", "--answers", s.answers)
}

func TestFullDisk(t *testing.T) {
	s := newSite(t)
	before := s.snapshot()
	prefix := s.path("usr/local")
	mount := func(size string) {
		if out, err := exec.Command("/usr/bin/mount", "-t", "tmpfs", "-o", "mode=755,size="+size, "tmpfs", prefix).CombinedOutput(); err != nil {
			t.Skipf("needs the right to mount: %v: %s", err, out)
		}
	}
	mount("64k")
	t.Cleanup(func() { exec.Command("/usr/bin/umount", prefix).Run() })
	s.write("dist/carapaced", strings.Repeat("x", 200<<10), 0o755)
	r := s.fails(wire.ExitFailed, "no space left on device", "install", "--answers", s.answers)
	if !strings.Contains(r.stderr, "the receipt says how far it came") {
		t.Errorf("what can be done is not said:\n%s", r.stderr)
	}
	if out, err := exec.Command("/usr/bin/mount", "-o", "remount,size=64m", prefix).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.install()
	if got := s.read("usr/local/carapace/libexec/carapaced"); len(got) != 200<<10 {
		t.Errorf("the daemon has %d bytes", len(got))
	}
	s.purge()
	s.must("/usr/bin/umount", prefix)
	s.same("after uninstall", before)
}
