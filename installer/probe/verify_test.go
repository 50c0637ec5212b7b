package probe

import (
	"context"
	"maps"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// TestIntact runs every check against an installation that is as it should
// be: all of them pass, and nothing is left behind.
func TestIntact(t *testing.T) {
	s := newSite(t)
	before := leftovers(t, s)
	var told []Check
	r := Verify(context.Background(), s.target, func(c Check) { told = append(told, c) })
	for _, c := range r.Checks {
		if c.Class != Pass {
			t.Errorf("%s: %s: %s", c.ID, c.Class, c.Evidence)
		}
		if c.Evidence == "" || c.Title == "" || c.Remedy != "" {
			t.Errorf("%s: a pass has a title and evidence, and no remedy: %+v", c.ID, c)
		}
	}
	if !r.OK || r.Exit() != wire.ExitOK {
		t.Errorf("ok %v, exit %d", r.OK, r.Exit())
	}
	if !slices.Equal(told, r.Checks) {
		t.Error("progress was told something else than the report says")
	}
	ids := map[string]bool{}
	for _, c := range r.Checks {
		if ids[c.ID] {
			t.Errorf("%s is there twice", c.ID)
		}
		ids[c.ID] = true
	}
	if after := leftovers(t, s); !slices.Equal(before, after) {
		t.Errorf("verify left something behind: %v, before it %v", after, before)
	}
}

// leftovers are the files below the site, and the control folders that are
// still there.
func leftovers(t *testing.T, s *site) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range controlParents {
		dirs, err := filepath.Glob(filepath.Join(parent, "carapace-probe-*", "c"))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range dirs {
			var st unix.Stat_t
			if unix.Lstat(d, &st) == nil && (st.Uid == s.client.uid || st.Uid == s.service.uid) {
				all = append(all, d)
			}
		}
	}
	return all
}

// breach is one hole made for real, and the checks that must say so.
type breach struct {
	name string
	make func(t *testing.T, s *site)
	want map[string]Class
	exit int
}

func chmod(mode, normal uint32, names ...string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		for _, name := range names {
			path := s.at(name)
			t.Cleanup(func() { unix.Chmod(path, normal) })
			if err := unix.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func all(steps ...func(*testing.T, *site)) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		for _, step := range steps {
			step(t, s)
		}
	}
}

// daemon starts the daemon anew as the service user, with flags.
func daemon(flags ...string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) { s.restart(t, s.service, flags...) }
}

// join puts a user into a group for the rest of the test.
func join(t *testing.T, name, group string) {
	t.Helper()
	shadow(t, "/usr/bin/gpasswd", "--add", name, group)
	t.Cleanup(func() { shadow(t, "/usr/bin/gpasswd", "--delete", name, group) })
}

// sudoers writes a rule for the rest of the test, below a name of ours.
func sudoersRule(rule func(*site) string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		if _, err := os.Stat("/usr/bin/sudo"); err != nil {
			t.Skip("needs sudo: not on this machine")
		}
		path := "/etc/sudoers.d/" + s.client.name
		t.Cleanup(func() { os.Remove(path) })
		if err := os.WriteFile(path, []byte(rule(s)+"\n"), 0o440); err != nil {
			t.Fatal(err)
		}
	}
}

var breaches = []breach{
	{"home open", chmod(0o755, 0o700, "home"), map[string]Class{"file.home": Fail, "stranger.files": Fail}, 1},
	{"home writable and unreadable", chmod(0o733, 0o700, "home"), map[string]Class{"file.home": Fail}, 1},
	{"state open", chmod(0o755, 0o700, "state"), map[string]Class{"file.state": Fail, "file.audit": Pass}, 1},
	{"audit open", chmod(0o755, 0o700, "state", "state/audit"), map[string]Class{"file.audit": Fail}, 1},
	{"config readable", chmod(0o644, 0o640, "etc/config.yaml"), map[string]Class{"file.config": Fail, "stranger.files": Fail}, 1},
	{"config replaceable", chmod(0o777, 0o755, "etc"), map[string]Class{"file.config": Fail, "stranger.files": Fail}, 1},
	{"secrets open", chmod(0o755, 0o750, "etc/secrets"), map[string]Class{"file.secrets": Fail}, 1},
	{"receipt readable", all(chmod(0o755, 0o700, "setup"), chmod(0o644, 0o600, "setup/receipt.json")),
		map[string]Class{"file.receipt": Fail, "install.receipt": Fail}, 1},
	{"another client's spool open", chmod(0o2755, 0o2750, "spool/somebody"), map[string]Class{"file.spool": Fail}, 1},
	{"spool writable", chmod(0o733, 0o711, "spool"), map[string]Class{"file.spool": Fail}, 1},

	{"program writable", chmod(0o777, 0o755, "p/bin/carapacectl"), map[string]Class{"code.owners": Fail, "code.write": Fail}, 1},
	{"tool writable", chmod(0o757, 0o755, "p/tools/imsg/imsg"), map[string]Class{"code.owners": Fail, "code.write": Fail}, 1},
	{"tool with a set-id bit", chmod(0o4755, 0o755, "p/tools/imsg/imsg"), map[string]Class{"code.owners": Fail}, 1},
	{"facts writable", chmod(0o666, 0o644, "p/share/install.json"), map[string]Class{"install.facts": Fail, "code.write": Fail}, 1},
	{"folder of tools the client's", func(t *testing.T, s *site) {
		t.Cleanup(func() { s.own(t, s.at("p/tools"), 0, 0, 0o755) })
		s.own(t, s.at("p/tools"), s.client.uid, s.client.gid, 0o755)
	}, map[string]Class{"code.owners": Fail, "code.write": Fail}, 1},
	{"a folder above everything writable", chmod(0o777, 0o755, "."),
		map[string]Class{"code.owners": Fail, "install.facts": Fail, "install.probe": Fail, "unit.owners": Fail, "run.folder": Fail, "code.write": Unknown}, 1},
	{"program replaced", func(t *testing.T, s *site) {
		path := s.at("p/bin/carapacectl")
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.WriteFile(path, old, 0o755) })
		if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}, map[string]Class{"code.hashes": Fail, "code.owners": Pass}, 1},
	{"program gone", func(t *testing.T, s *site) {
		path := s.at("p/bin/carapacectl")
		t.Cleanup(func() { os.Rename(path+".away", path) })
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
	}, map[string]Class{"code.hashes": Fail}, 1},
	{"unit writable", chmod(0o666, 0o644, "units/carapace.service"), map[string]Class{"unit.owners": Fail, "unit.write": Fail}, 1},
	{"unit folder writable", chmod(0o777, 0o755, "units"), map[string]Class{"unit.owners": Fail, "unit.write": Fail}, 1},
	{"unit with an open drop-in folder", func(t *testing.T, s *site) {
		dir := s.at("units/carapace.service.d")
		t.Cleanup(func() { os.Remove(dir) })
		s.folder(t, dir, 0, 0, 0o777)
	}, map[string]Class{"unit.write": Fail}, 1},

	{"socket for everybody", all(chmod(0o755, 0o750, "run"), chmod(0o666, 0o660, "run/gateway.sock")),
		map[string]Class{"run.folder": Fail, "run.socket": Fail, "stranger.connect": Fail}, 1},
	{"admin socket for everybody", chmod(0o666, 0o600, "run/admin.sock"), map[string]Class{"run.admin": Fail}, 1},
	{"socket folder writable by clients", chmod(0o770, 0o750, "run"), map[string]Class{"run.folder": Fail, "run.write": Fail}, 1},

	{"sudo for everything", sudoersRule(func(s *site) string { return s.client.name + " ALL=(ALL) NOPASSWD: ALL" }),
		map[string]Class{"privilege.sudo": Fail, "privilege.rules": Fail}, 1},
	{"sudo to the service user", sudoersRule(func(s *site) string { return s.client.name + " ALL=(" + s.service.name + ") NOPASSWD: ALL" }),
		map[string]Class{"privilege.sudo": Fail, "privilege.rules": Fail}, 1},
	{"sudo for an editor", sudoersRule(func(s *site) string { return s.client.name + " ALL=(root) NOPASSWD: /usr/bin/vim /etc/hosts" }),
		map[string]Class{"privilege.sudo": Pass, "privilege.rules": Fail}, 1},
	{"sudo for one command", sudoersRule(func(s *site) string { return s.client.name + " ALL=(root) NOPASSWD: /sbin/reboot" }),
		map[string]Class{"privilege.sudo": Pass, "privilege.rules": Warn}, 0},
	{"sudo for everything, accepted", all(
		sudoersRule(func(s *site) string { return s.client.name + " ALL=(ALL) NOPASSWD: ALL" }),
		func(t *testing.T, s *site) {
			t.Cleanup(func() { s.target.AcceptAdminClient = false })
			s.target.AcceptAdminClient = true
		}), map[string]Class{"privilege.sudo": Warn, "privilege.rules": Warn}, 0},
	{"docker group", func(t *testing.T, s *site) {
		if _, err := user.LookupGroup("docker"); err != nil {
			shadow(t, "/usr/sbin/groupadd", "--system", "docker")
			t.Cleanup(func() { shadow(t, "/usr/sbin/groupdel", "docker") })
		}
		join(t, s.client.name, "docker")
	}, map[string]Class{"privilege.groups": Fail}, 1},
	{"sudo group", func(t *testing.T, s *site) {
		if _, err := user.LookupGroup("sudo"); err != nil {
			t.Skip("needs the group sudo: not on this machine")
		}
		join(t, s.client.name, "sudo")
	}, map[string]Class{"privilege.admin": Warn, "privilege.groups": Pass, "privilege.sudo": Pass}, 0},
	{"container engine", func(t *testing.T, s *site) {
		const socket = "/run/docker.sock"
		if _, err := os.Lstat(socket); err == nil {
			t.Skip("needs a machine without docker")
		}
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		if err := os.Chmod(socket, 0o666); err != nil {
			t.Fatal(err)
		}
	}, map[string]Class{"privilege.engines": Fail}, 1},

	{"service user with a shell", func(t *testing.T, s *site) {
		t.Cleanup(func() { shadow(t, "/usr/sbin/usermod", "--shell", "/usr/sbin/nologin", s.service.name) })
		shadow(t, "/usr/sbin/usermod", "--shell", "/bin/sh", s.service.name)
	}, map[string]Class{"account.shell": Fail}, 1},
	{"service user with a password", func(t *testing.T, s *site) {
		t.Cleanup(func() { shadow(t, "/usr/sbin/usermod", "--password", "!", s.service.name) })
		shadow(t, "/usr/sbin/usermod", "--password", "$6$salt$hash", s.service.name)
	}, map[string]Class{"account.password": Fail}, 1},
	{"service user in another group", func(t *testing.T, s *site) {
		group, _ := newGroup(t)
		join(t, s.service.name, group)
	}, map[string]Class{"account.groups": Fail}, 1},
	{"service user with a crontab", func(t *testing.T, s *site) {
		const dir = "/var/spool/cron/crontabs"
		for _, d := range []string{filepath.Dir(dir), dir} { // where cron is not installed, for a moment
			if err := os.Mkdir(d, 0o755); err == nil {
				t.Cleanup(func() { os.Remove(d) })
			} else if !os.IsExist(err) {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, s.service.name)
		t.Cleanup(func() { os.Remove(path) })
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}, map[string]Class{"account.jobs": Fail}, 1},
	{"client in the service group", func(t *testing.T, s *site) { join(t, s.client.name, s.service.name) },
		map[string]Class{"account.client": Fail, "account.groups": Fail}, 1},
	{"a stranger in the client group", func(t *testing.T, s *site) { join(t, newUser(t, "x").name, s.target.ClientGroup) },
		map[string]Class{"account.members": Fail}, 1},

	{"daemon runs as the client", func(t *testing.T, s *site) {
		s.stop()
		t.Cleanup(func() { s.start(s.t, s.service) })
		t.Cleanup(func() { s.own(t, s.at("run"), s.service.uid, s.clients, 0o750) })
		s.own(t, s.at("run"), s.client.uid, s.clients, 0o750)
		s.start(t, s.client)
	}, map[string]Class{"live.peer": Fail, "live.ping": Fail, "live.send": Fail, "process.user": Fail, "process.signal": Fail,
		"process.trace": Fail, "process.memory": Fail, "run.folder": Fail, "run.socket": Fail, "run.write": Fail}, 1},
	{"daemon is another program", func(t *testing.T, s *site) {
		s.stop()
		t.Cleanup(func() { s.start(s.t, s.service) })
		s.startProgram(t, s.at("p/bin/carapace-setup"), s.service)
	}, map[string]Class{"process.program": Fail, "process.user": Pass}, 1},
	{"stranger permitted", daemon("-friendly"), map[string]Class{"live.refused": Fail, "live.send": Pass}, 1},
	{"nothing written down", daemon("-forgetful"), map[string]Class{"live.queue": Fail, "live.audit": Fail, "live.refused": Pass, "live.send": Pass}, 1},
	{"gateway locked", daemon("-locked"), map[string]Class{"live.send": Unknown, "live.refused": Unknown, "live.ping": Pass}, 2},
	{"gateway not running", func(t *testing.T, s *site) {
		s.stop()
		t.Cleanup(func() { s.start(s.t, s.service) })
	}, map[string]Class{"live.peer": Unknown, "live.ping": Unknown, "live.send": Unknown, "live.refused": Unknown, "live.queue": Unknown,
		"live.audit": Unknown, "process.user": Unknown, "process.signal": Unknown, "stranger.connect": Unknown,
		"run.socket": Unknown, "run.folder": Pass, "file.state": Pass}, 2},
	{"nothing to protect", func(t *testing.T, s *site) {
		path := s.at("etc/secrets")
		t.Cleanup(func() { os.Rename(path+".away", path) })
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
	}, map[string]Class{"file.secrets": Unknown, "stranger.files": Unknown}, 2},
	// Below a folder that the client cannot enter the errno is right and proves
	// nothing; only the service user can tell that nothing is there.
	{"nothing to protect, hidden", func(t *testing.T, s *site) {
		path := s.at("state/audit")
		t.Cleanup(func() { os.Rename(path+".away", path) })
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
	}, map[string]Class{"file.audit": Unknown, "file.state": Pass}, 2},
}

// TestBreaches makes every hole real, one after the other, in one
// installation, and then closes it again.
func TestBreaches(t *testing.T) {
	s := newSite(t)
	for _, b := range breaches {
		t.Run(b.name, func(t *testing.T) {
			b.make(t, s)
			r := s.verify(t, slices.Collect(maps.Keys(b.want))...)
			for id, want := range b.want {
				c := r.find(t, id)
				if c.Class != want {
					t.Errorf("%s is %s, want %s: %s", id, c.Class, want, c.Evidence)
				}
				if c.Class != Pass && c.Evidence == "" {
					t.Errorf("%s has no evidence", id)
				}
				if c.Class == Fail && c.Remedy == "" {
					t.Errorf("%s fails without a remedy", id)
				}
			}
			if r.Exit() != b.exit || r.OK != (b.exit == 0) {
				t.Errorf("exit %d, ok %v, want exit %d", r.Exit(), r.OK, b.exit)
			}
		})
	}
	t.Run("closed again", func(t *testing.T) {
		for _, c := range s.verify(t).Checks {
			if c.Class != Pass {
				t.Errorf("%s: %s: %s", c.ID, c.Class, c.Evidence)
			}
		}
	})
}

// TestCoreLimit needs a daemon whose hard limit permits core dumps, which a
// test that runs without one cannot give it.
func TestCoreLimit(t *testing.T) {
	var have unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &have); err != nil {
		t.Fatal(err)
	}
	if have.Max == 0 {
		t.Skip("needs a hard core limit above 0")
	}
	s := newSite(t)
	s.restart(t, s.service, "-core")
	if c := s.verify(t, "process.core").find(t, "process.core"); c.Class != Fail || c.Severity != Medium {
		t.Errorf("process.core is %s: %s", c.Class, c.Evidence)
	}
}

// TestWithoutRoot runs verify as the client itself, and as somebody else.
func TestWithoutRoot(t *testing.T) {
	s := newSite(t)
	r := s.verifyAs(t, s.client)
	rootOnly := 0
	for _, c := range r.Checks {
		switch {
		case c.Needs == NeedsRoot:
			rootOnly++
			if c.Class != Unknown || c.Severity != Info || c.Remedy != remedyRoot {
				t.Errorf("%s needs root: %+v", c.ID, c)
			}
		case c.Class != Pass:
			t.Errorf("%s: %s: %s", c.ID, c.Class, c.Evidence)
		}
	}
	if rootOnly == 0 || !r.OK || r.Exit() != 0 {
		t.Errorf("%d checks need root, ok %v, exit %d", rootOnly, r.OK, r.Exit())
	}

	t.Run("breach", func(t *testing.T) {
		chmod(0o755, 0o700, "home")(t, s)
		r := s.verifyAs(t, s.client)
		if c := r.find(t, "file.home"); c.Class != Fail || r.Exit() != 1 {
			t.Errorf("file.home is %s, exit %d: %s", c.Class, r.Exit(), c.Evidence)
		}
	})
	t.Run("session older than the membership", func(t *testing.T) {
		old := s.client
		old.groups = nil
		r := s.verifyAs(t, old)
		if c := r.find(t, "live.ping"); c.Class != Fail || !strings.Contains(c.Remedy, "log out") {
			t.Errorf("live.ping is %s: %s (%s)", c.Class, c.Evidence, c.Remedy)
		}
	})
	t.Run("somebody else", func(t *testing.T) {
		r := s.verifyAs(t, newUser(t, "x"))
		if r.Exit() == 0 {
			t.Error("somebody who can try nothing verified everything")
		}
		for _, id := range []string{"file.home", "privilege.sudo", "code.write"} {
			if c := r.find(t, id); c.Class != Unknown || c.Severity != Critical {
				t.Errorf("%s is %s, %s", id, c.Class, c.Severity)
			}
		}
	})
}
