//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/carapace-gateway/carapace/installer/plan"
)

// site is a machine's worth of places and accounts for one test: real users
// and groups with throw-away names, and a folder of root's before every path.
type site struct {
	t       *testing.T
	root    string // before every path
	dist    string // the release
	prefix  string
	service string
	group   string
	client  string
	answers string
	env     []string
}

// newSite makes a site, and takes all of it away again. Below /opt and not
// below /tmp, because no folder on the way may be anybody else's.
func newSite(t *testing.T) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes real users and groups")
	}
	suffix := strconv.FormatUint(uint64(rand.Uint32()), 36)
	s := &site{
		t: t, root: "/opt/cptest-" + suffix,
		service: "cptest" + suffix + "s", group: "cptest" + suffix + "g", client: "cptest" + suffix + "c",
	}
	s.dist, s.prefix = s.root+"/dist", s.root+"/usr/local/carapace"
	t.Cleanup(s.remove)
	for _, dir := range []string{"dist", "usr/local", "etc/systemd/system", "etc/profile.d", "var/lib", "var/spool", "run"} {
		if err := os.MkdirAll(filepath.Join(s.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"carapace-setup", "carapaced", "carapacectl", "carapace-shim"} {
		s.write("dist/"+p, "the program "+p+"\n", 0o755)
	}
	s.must("/usr/sbin/useradd", "--no-create-home", "--shell", "/bin/sh", "--user-group", s.client)
	tool, err := os.ReadFile("/usr/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	s.write("tool", string(tool), 0o755)
	s.answer(`channels:
  loopback: {enabled: true}
  imessage: {enabled: true, tool: ` + s.root + `/tool}
allow:
  outbound: {imessage: ["+15550001111"]}
start: false
`)
	s.env = []string{"CPTEST_UNTRIED=1"}
	// Other tests choose ids at the same time, from the top of the usual range.
	from := 200 + 10*rand.IntN(50)
	s.write("login.defs", fmt.Sprintf("UID_MIN 1000\nSYS_UID_MIN %d\nSYS_UID_MAX %d\nSYS_GID_MIN %d\nSYS_GID_MAX %d\n", from, from+9, from, from+9), 0o644)
	return s
}

// remove takes away what is left of the site, whatever state a test left it in.
func (s *site) remove() {
	for _, del := range [][2]string{
		{"userdel", s.service}, {"userdel", s.client}, {"groupdel", s.group}, {"groupdel", s.service}, {"groupdel", s.client},
	} {
		db := map[string]string{"userdel": "passwd", "groupdel": "group"}[del[0]]
		there := func() bool { return exec.Command("/usr/bin/getent", db, del[1]).Run() == nil }
		for tries := 0; there() && tries < 100; tries++ {
			if out, err := exec.Command("/usr/sbin/"+del[0], del[1]).CombinedOutput(); err != nil && !bytes.Contains(out, []byte("cannot lock")) {
				s.t.Errorf("%s %s: %v\n%s", del[0], del[1], err, out)
				break
			}
		}
	}
	if err := os.RemoveAll(s.root); err != nil {
		s.t.Error(err)
	}
}

func (s *site) write(name, content string, mode fs.FileMode) {
	s.t.Helper()
	name = filepath.Join(s.root, name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		s.t.Fatal(err)
	}
}

// answer writes the answers file: the site's accounts, and text.
func (s *site) answer(text string) {
	s.t.Helper()
	s.answers = s.root + "/answers.yaml"
	s.write("answers.yaml", fmt.Sprintf("service_user: %s\nclient_group: %s\nclients: [%s]\n%s", s.service, s.group, s.client, text), 0o600)
}

func (s *site) must(path string, args ...string) string {
	s.t.Helper()
	for range 40 {
		out, err := exec.Command(path, args...).CombinedOutput()
		if err == nil {
			return string(out)
		}
		if !bytes.Contains(out, []byte("cannot lock")) {
			s.t.Fatalf("%s %q: %v\n%s", path, args, err, out)
		}
	}
	s.t.Fatalf("%s %q: the account files stay locked", path, args)
	return ""
}

// result is how a run ended; code is -1 when it was killed.
type result struct {
	code           int
	stdout, stderr string
}

func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asSetup+"=1", "CPTEST_ROOT="+s.root, "CPTEST_DIST="+s.dist, "SUDO_USER=",
		"CPTEST_LOGIN_DEFS="+s.path("login.defs"))
	cmd.Env = append(cmd.Env, s.env...)
	return cmd
}

func (s *site) setup(env []string, args ...string) result {
	s.t.Helper()
	cmd := s.command(args...)
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// ok runs a command that must succeed.
func (s *site) ok(args ...string) result {
	s.t.Helper()
	r := s.setup(nil, args...)
	if r.code != 0 {
		s.t.Fatalf("%q: exit %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return r
}

// fails runs a command that must end with a code and say something.
func (s *site) fails(code int, says string, args ...string) result {
	s.t.Helper()
	r := s.setup(nil, args...)
	if r.code != code || !strings.Contains(r.stderr+r.stdout, says) {
		s.t.Errorf("%q: exit %d, want %d and %q\n%s%s", args, r.code, code, says, r.stdout, r.stderr)
	}
	return r
}

func (s *site) install() result { return s.ok("install", "--answers", s.answers) }
func (s *site) purge() result   { return s.ok("uninstall", "--yes", "--purge") }

// snapshot is what the machine looks like: users, groups and members, files
// with owner, mode, access list and hash, without times. Ids of throw-away
// accounts are given by name, because they are chosen anew each time. Other
// tests' accounts are left out.
func (s *site) snapshot() map[string]string {
	s.t.Helper()
	snap := make(map[string]string)
	ours := strings.TrimSuffix(s.client, "c")
	users, groups := map[uint32]string{}, map[uint32]string{}
	read := func(db string, names map[uint32]string) [][]string {
		var rows [][]string
		for _, line := range strings.Split(strings.TrimSpace(s.must("/usr/bin/getent", db)), "\n") {
			f := strings.Split(line, ":")
			id, err := strconv.ParseUint(f[2], 10, 32)
			if err != nil {
				s.t.Fatal(err)
			}
			switch {
			case strings.HasPrefix(f[0], ours):
				names[uint32(id)] = f[0]
			case id >= 100:
				continue // chosen on this machine: by other tests, too
			}
			rows = append(rows, f)
		}
		return rows
	}
	group := read("group", groups)
	for _, f := range group {
		members := slices.DeleteFunc(strings.Split(f[3], ","), func(m string) bool {
			return strings.HasPrefix(m, "cptest") && !strings.HasPrefix(m, ours)
		})
		slices.Sort(members)
		snap["group "+f[0]] = strings.Join(members, ",")
		if !strings.HasPrefix(f[0], ours) {
			snap["group "+f[0]] += " gid " + f[2]
		}
	}
	name := func(id uint32, names map[uint32]string) string {
		if n, ok := names[id]; ok {
			return n
		}
		return strconv.FormatUint(uint64(id), 10)
	}
	for _, f := range read("passwd", users) {
		if strings.HasPrefix(f[0], ours) {
			gid, _ := strconv.ParseUint(f[3], 10, 32)
			f[2], f[3] = "", name(uint32(gid), groups)
		}
		snap["user "+f[0]] = strings.Join(f[1:], ":")
	}
	err := filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(s.root, path)
		switch rel {
		case "dist", "systemd":
			return fs.SkipDir
		case "answers.yaml":
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		text := fmt.Sprintf("%v %s:%s %04o", info.Mode().Type(), name(st.Uid, users), name(st.Gid, groups), st.Mode&0o7777)
		acl := make([]byte, 1024)
		if n, err := unix.Lgetxattr(path, "system.posix_acl_access", acl); err == nil {
			text += " acl " + hex.EncodeToString(acl[:n])
		}
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" links %d %s", st.Nlink, s.content(rel, data))
		}
		snap["file "+rel] = text
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return snap
}

// content is the hash of a file, of what in it is the same each time.
func (s *site) content(rel string, data []byte) string {
	switch filepath.Base(rel) {
	case "receipt.json":
		r, err := plan.ParseReceipt(data)
		if err != nil {
			s.t.Fatal(err)
		}
		var b strings.Builder
		for _, e := range r.Steps {
			fmt.Fprintf(&b, "\n  %s %s %s %s", e.Kind, e.Key, e.Change, e.State)
		}
		return b.String()
	case "install.json":
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			s.t.Fatal(err)
		}
		m["service_uid"] = 0
		data, _ = json.Marshal(m)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (s *site) same(what string, want map[string]string) {
	s.t.Helper()
	if d := cmp.Diff(want, s.snapshot()); d != "" {
		s.t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func TestInstallTwiceAndUninstall(t *testing.T) {
	s := newSite(t)
	before := s.snapshot()
	r := s.install()
	installed := s.snapshot()
	if len(installed) < len(before)+20 {
		t.Fatalf("only %d things were made\n%s", len(installed)-len(before), r.stderr)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	if r := s.setup([]string{"CPTEST_TRACE=" + trace}, "install", "--answers", s.answers); r.code != 0 {
		t.Fatalf("the second install: exit %d\n%s", r.code, r.stderr)
	}
	if done, err := os.ReadFile(trace); err == nil {
		t.Errorf("the second install changed something:\n%s", done)
	}
	s.same("after the second install", installed)
	s.purge()
	s.same("after uninstall --purge", before)
	if r := s.ok("uninstall", "--yes"); !strings.Contains(r.stdout, "nothing to undo") {
		t.Errorf("the second uninstall: %s", r.stdout)
	}
	s.same("after the second uninstall", before)
}

// every says which of n kill points are tried: all of them when asked to, else
// the first, the last and a spread of the others.
func every(t *testing.T, n int) []int {
	step := 1
	if os.Getenv("CPTEST_KILL_ALL") != "1" {
		step = max(1, n/8)
	}
	var points []int
	offset := rand.IntN(step)
	for i := 1; i <= n; i++ {
		if i <= 2 || i > n-2 || (i-1-offset)%step == 0 {
			points = append(points, i)
		}
	}
	if len(points) < n {
		t.Logf("%d of %d kill points are tried; CPTEST_KILL_ALL=1 tries all", len(points), n)
	}
	return points
}

// actions counts what a run changes.
func (s *site) actions(args ...string) int {
	s.t.Helper()
	trace := filepath.Join(s.t.TempDir(), "trace")
	if r := s.setup([]string{"CPTEST_TRACE=" + trace}, args...); r.code != 0 {
		s.t.Fatalf("%q: exit %d\n%s", args, r.code, r.stderr)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		s.t.Fatal(err)
	}
	return bytes.Count(data, []byte("\n"))
}

func (s *site) killedAfter(n int, args ...string) {
	s.t.Helper()
	if r := s.setup([]string{"CPTEST_KILL=" + strconv.Itoa(n)}, args...); r.code != -1 {
		s.t.Fatalf("%q was to be killed after %d changes: exit %d\n%s", args, n, r.code, r.stderr)
	}
}

// TestKillMatrix kills the real program after its N-th change to the real
// system, with SIGKILL, and then installs, repairs or uninstalls. The end is
// always that of an undisturbed run.
func TestKillMatrix(t *testing.T) {
	s := newSite(t)
	before := s.snapshot()
	install := []string{"install", "--answers", s.answers}
	total := s.actions(install...)
	installed := s.snapshot()
	undo := s.actions("uninstall", "--yes", "--purge")
	s.same("after uninstall --purge", before)

	tried, good := 0, 0
	check := func(what string, want map[string]string) {
		t.Helper()
		tried++
		if d := cmp.Diff(want, s.snapshot()); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
			return
		}
		good++
	}
	for _, n := range every(t, total) {
		s.killedAfter(n, install...)
		s.ok(install...)
		check(fmt.Sprintf("install killed after %d, then install", n), installed)
		s.purge()
		check(fmt.Sprintf("install killed after %d, then install, then uninstall", n), before)

		s.killedAfter(n, install...)
		s.purge()
		check(fmt.Sprintf("install killed after %d, then uninstall", n), before)

		s.killedAfter(n, install...)
		if r := s.setup(nil, "repair"); r.code == 0 {
			check(fmt.Sprintf("install killed after %d, then repair", n), installed)
		} else if !strings.Contains(r.stderr, "there is no receipt") {
			t.Errorf("install killed after %d, then repair: exit %d\n%s", n, r.code, r.stderr)
		}
		s.purge()
	}
	for _, n := range every(t, undo) {
		s.install()
		s.killedAfter(n, "uninstall", "--yes", "--purge")
		s.purge()
		check(fmt.Sprintf("uninstall killed after %d, then uninstall", n), before)

		s.install()
		s.killedAfter(n, "uninstall", "--yes", "--purge")
		s.install()
		check(fmt.Sprintf("uninstall killed after %d, then install", n), installed)
		s.purge()
	}
	t.Logf("kill matrix: %d/%d end states are those of an undisturbed run (%d changes to install, %d to uninstall)", good, tried, total, undo)
}
