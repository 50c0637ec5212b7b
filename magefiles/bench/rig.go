package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The two people of the bench: one on the list, one not.
const (
	friend   = "+15550001111"
	stranger = "+15550002222"
)

// rig is a gateway of this bench alone: accounts, folder, programs, daemon.
type rig struct {
	base            string
	service, client account
	clients         int // gid of those who may connect
	env             []string
	tool            string // the stand-in imsg; empty when it is not built
	sent            string // folder in which the tool writes down what it sent
	sudo            string // path of sudo; empty when it is not measured
	skipped         []string
}

// account is a throw-away user.
type account struct {
	name     string
	uid, gid int
}

// tagPrefix begins the name of everything of a run, so that what a killed run
// left can be told by its name.
const tagPrefix = "cptestb"

// newRig makes the accounts and the folder, and starts the daemon. What it
// made is in undo, also when it fails.
func newRig(ctx context.Context, undo *cleanup, dist, parts, dir string) (*rig, error) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	sweep()
	for _, p := range []string{"useradd", "groupadd", "userdel", "groupdel"} {
		if _, err := exec.LookPath(p); err != nil {
			return nil, fmt.Errorf("%s is needed to make throw-away accounts: %w", p, err)
		}
	}
	syscall.Umask(0o022)
	r := &rig{}
	tag := tagPrefix + strings.ToLower(rand.Text()[:6])
	var err error
	if r.base, err = filepath.Abs(filepath.Join(dir, tag)); err != nil {
		return nil, err
	}
	if err := rootAlone(filepath.Dir(r.base)); err != nil {
		return nil, err
	}
	if err := os.Mkdir(r.base, 0o755); err != nil {
		return nil, err
	}
	undo.add(func() error { return os.RemoveAll(r.base) })

	if r.clients, err = newGroup(ctx, undo, tag+"g"); err != nil {
		return nil, err
	}
	if r.service, err = newUser(ctx, undo, tag+"s", filepath.Join(r.base, "home")); err != nil {
		return nil, err
	}
	if r.client, err = newUser(ctx, undo, tag+"c", "/nonexistent"); err != nil {
		return nil, err
	}
	if err := r.memory(undo, tag); err != nil {
		return nil, err
	}
	if err := r.files(dist, parts); err != nil {
		return nil, err
	}
	if err := r.daemon(ctx, undo); err != nil {
		return nil, err
	}
	if err := r.sudoers(ctx, undo, tag); err != nil {
		return nil, err
	}
	return r, nil
}

// rootAlone refuses a folder below which somebody but root could put
// something in place of ours.
func rootAlone(dir string) error {
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Lstat(d)
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); !info.IsDir() || st.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("%s is not a folder that root alone can write; -dir names another place", d)
		}
		if d == "/" {
			return nil
		}
	}
}

func newGroup(ctx context.Context, undo *cleanup, name string) (int, error) {
	if err := tell(ctx, "groupadd", "--system", name); err != nil {
		return 0, err
	}
	undo.add(func() error { return tell(context.Background(), "groupdel", name) })
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

func newUser(ctx context.Context, undo *cleanup, name, home string) (account, error) {
	a := account{name: name}
	err := tell(ctx, "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", home, "--shell", "/usr/sbin/nologin", name)
	if err != nil {
		return a, err
	}
	undo.add(func() error { return tell(context.Background(), "userdel", name) })
	u, err := user.Lookup(name)
	if err != nil {
		return a, err
	}
	if a.uid, err = strconv.Atoi(u.Uid); err != nil {
		return a, err
	}
	a.gid, err = strconv.Atoi(u.Gid)
	return a, err
}

// config lets the friend be written to as often as the bench likes. Everything
// else stays as in a real one.
const config = `version: 1
clients: [%s]
region: US
rate:
  global: {requests: 100000, per: 60s}
  default: {requests: 100000, per: 60s}
  per_peer: {requests: 100000, per: 60s}
  attempts: {requests: 10000, per: 1s, burst: 10000}
channels:
  imessage:
    enabled: true
    tool: %s
    outbound: {mode: allowlist, allow: ["%s"]}
    rate: {requests: 100000, per: 60s}
`

// memory makes the folder in which the stand-in writes down what it sent. It
// syncs that file; imsg itself syncs nothing, so the folder is in memory, where
// that costs nothing and the table shows what Carapace alone costs.
func (r *rig) memory(undo *cleanup, tag string) error {
	r.sent = filepath.Join("/dev/shm", tag)
	if fs, err := fileSystem("/dev/shm"); err != nil || !fs.memory {
		r.sent = filepath.Join(r.base, "sent")
		fmt.Println("note: there is no file system in memory; the stand-in tool adds a sync of its own to each send")
	}
	if err := os.Mkdir(r.sent, 0o700); err != nil {
		return err
	}
	undo.add(func() error { return os.RemoveAll(r.sent) })
	return os.Chown(r.sent, r.service.uid, r.service.gid)
}

// delivered counts what the stand-in sent.
func (r *rig) delivered() (int, error) {
	data, err := os.ReadFile(filepath.Join(r.sent, "sent.jsonl"))
	return bytes.Count(data, []byte("\n")), err
}

// files lays out programs, tool, configuration and folders as an installation
// has them.
func (r *rig) files(dist, parts string) error {
	for _, d := range []struct {
		path     string
		uid, gid int
		mode     os.FileMode
	}{
		{"bin", 0, 0, 0o755}, {"libexec", 0, 0, 0o755}, {"tools", 0, 0, 0o755}, {"tools/imsg", 0, 0, 0o755},
		{"state", r.service.uid, r.service.gid, 0o700},
		{"home", r.service.uid, r.service.gid, 0o700},
		{"run", r.service.uid, r.clients, 0o750},
		{"spool", 0, 0, 0o711},
	} {
		path := filepath.Join(r.base, d.path)
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		if err := os.Chown(path, d.uid, d.gid); err != nil {
			return err
		}
		if err := os.Chmod(path, d.mode); err != nil {
			return err
		}
	}
	for from, to := range map[string]string{
		"carapaced": "libexec/carapaced", "carapacectl": "bin/carapacectl", "carapace-shim": "bin/imsg",
	} {
		if _, err := install(filepath.Join(dist, from), filepath.Join(r.base, to), 0o755); err != nil {
			return fmt.Errorf("%w\nhint: go tool mage build", err)
		}
	}
	r.tool = filepath.Join(r.base, "tools/imsg/imsg")
	if _, err := install(filepath.Join(parts, "imsg"), r.tool, 0o755); err != nil {
		return fmt.Errorf("the stand-in tool: %w", err)
	}
	fixture, err := json.Marshal(map[string]any{"dir": r.sent, "chats": []int{}, "messages": []int{}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(r.tool), "fixture.json"), fixture, 0o644); err != nil {
		return err
	}
	text := fmt.Sprintf(config, r.client.name, r.tool, friend)
	path := filepath.Join(r.base, "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		return err
	}
	return os.Chown(path, 0, r.service.gid)
}

// daemon starts the gateway as its own user and waits for its first answer.
func (r *rig) daemon(ctx context.Context, undo *cleanup) error {
	log, err := os.Create(filepath.Join(r.base, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(r.base, "libexec/carapaced"),
		"--config", filepath.Join(r.base, "config.yaml"), "--state", filepath.Join(r.base, "state"),
		"--run", filepath.Join(r.base, "run"), "--spool", filepath.Join(r.base, "spool"))
	cmd.Dir, cmd.Env, cmd.Stderr = "/", []string{"PATH=/usr/bin:/bin"}, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: credential(r.service, r.clients)}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	undo.add(func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
		return nil
	})
	r.env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "NO_COLOR=1",
		"CARAPACE_SOCKET=" + filepath.Join(r.base, "run/gateway.sock"),
		"CARAPACE_SERVER_UID=" + strconv.Itoa(r.service.uid)}
	deadline := time.After(30 * time.Second)
	for {
		err := start(ctx, r.asClient(), r.env, 0, filepath.Join(r.base, "bin/carapacectl"), "ping")
		if err == nil {
			return nil
		}
		select {
		case e := <-ended:
			ended <- e
			return fmt.Errorf("the gateway ended: %v\n%s", e, r.logged())
		case <-deadline:
			return fmt.Errorf("the gateway did not answer within 30 s: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// logged is what the daemon has said.
func (r *rig) logged() []byte {
	data, err := os.ReadFile(filepath.Join(r.base, "log"))
	if err != nil {
		return []byte(err.Error())
	}
	return data
}

// sudoersFile is where the rule of this run stands: the one thing that a
// killed run must not leave behind.
func sudoersFile(tag string) string { return "/etc/sudoers.d/" + tag }

// sudoers lets the client run the tool as the service user without a password:
// what people do who have no gateway, and what Carapace is compared to.
func (r *rig) sudoers(ctx context.Context, undo *cleanup, tag string) error {
	skip := func(why string) error {
		r.skipped = append(r.skipped, sudo+": "+why)
		return nil
	}
	path, err := exec.LookPath("sudo")
	if err != nil {
		return skip("sudo is not installed")
	}
	if _, err := exec.LookPath("visudo"); err != nil {
		return skip("visudo is not installed, and a rule that nobody checked is not put into /etc")
	}
	if err := rootAlone("/etc/sudoers.d"); err != nil {
		return skip(err.Error())
	}
	// Checked before it is where sudo reads: a bad file there locks everybody out.
	draft := filepath.Join(r.base, "sudoers")
	rule := fmt.Sprintf(ownerLine+"%s ALL=(%s) NOPASSWD: %s\n", os.Getpid(), r.client.name, r.service.name, r.tool)
	if err := os.WriteFile(draft, []byte(rule), 0o440); err != nil {
		return err
	}
	if err := tell(ctx, "visudo", "-c", "-q", "-f", draft); err != nil {
		return skip(err.Error())
	}
	undo.add(func() error {
		if err := os.Remove(sudoersFile(tag)); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
	if _, err := install(draft, sudoersFile(tag), 0o440); err != nil {
		return err
	}
	if err := tell(ctx, "visudo", "-c", "-q"); err != nil {
		return skip(errors.Join(err, os.Remove(sudoersFile(tag))).Error())
	}
	r.sudo = path
	return nil
}

// sweep removes the sudo rule of a bench that was killed. Its accounts and
// folder hold nothing; they are named and left to a person.
func sweep() {
	files, _ := filepath.Glob(sudoersFile(tagPrefix + "*"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		var pid int
		if _, err2 := fmt.Sscanf(string(text), ownerLine, &pid); err != nil || err2 != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		tag := filepath.Base(f)
		fmt.Printf("removing %s, which a killed bench left; accounts of it: %ss, %sc, group %sg\n", f, tag, tag, tag)
		if err := os.Remove(f); err != nil {
			fmt.Println(err)
		}
	}
}

// ownerLine begins the sudo rule and says which process it belongs to.
const ownerLine = "# made by the bench with pid %d; removed at its end\n"

// measures are what the rig can time.
func (r *rig) measures() []measure {
	shim := filepath.Join(r.base, "bin/imsg")
	all := []measure{
		{ping, func(ctx context.Context) error {
			return start(ctx, r.asClient(), r.env, 0, filepath.Join(r.base, "bin/carapacectl"), "ping")
		}},
		// The gateway answers this itself: a ping in the shim's own words.
		{answer, func(ctx context.Context) error {
			return start(ctx, r.asClient(), r.env, 0, shim, "--version")
		}},
		{refused, func(ctx context.Context) error {
			return start(ctx, r.asClient(), r.env, 77, shim, "send", "--to", stranger, "--text", "hi")
		}},
		{allowed, func(ctx context.Context) error {
			return start(ctx, r.asClient(), r.env, 0, shim, "send", "--to", friend, "--text", "hi")
		}},
	}
	if r.sudo != "" {
		all = append(all, measure{sudo, func(ctx context.Context) error {
			return start(ctx, r.asClient(), r.env, 0, r.sudo, "-n", "-u", r.service.name, "--", r.tool, "send", "--to", friend, "--text", "hi")
		}})
	}
	return all
}

// asClient is how a program is started in the account of the client, who is
// in the clients' group as after a fresh login.
func (r *rig) asClient() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(r.client, r.clients)}
}

func credential(a account, groups ...int) *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	for _, g := range groups {
		c.Groups = append(c.Groups, uint32(g))
	}
	return c
}

// start runs a program to its end. Another exit code than the one wanted is an
// error with what the program said.
func start(ctx context.Context, as *syscall.SysProcAttr, env []string, want int, path string, args ...string) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", env, as
	out, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return err
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		return fmt.Errorf("%s ended with %d, not %d: %s", filepath.Base(path), got, want, bytes.TrimSpace(out))
	}
	return nil
}

// tell runs an administration command.
func tell(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// install copies a file to a place of root's and returns where.
func install(from, to string, mode os.FileMode) (string, error) {
	src, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Chmod(mode), dst.Close()); err != nil {
		return "", err
	}
	return to, nil
}
