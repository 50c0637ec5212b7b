package probe

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// power is a group whose members hold more than their own account.
type power struct {
	name     string
	class    Class
	severity Severity
	why      string
}

// powers are such groups, by the names that Debian, Red Hat, Arch and macOS
// give them. Membership is enough: whether the daemon behind a group runs today
// says nothing about tomorrow.
var powers = []power{
	{"root", Fail, Critical, "files of root that its group may write"},
	{"docker", Fail, Critical, "a container can mount / and write it as root"},
	{"podman", Fail, Critical, "a container of root's can mount /"},
	{"lxd", Fail, Critical, "a container can mount / and write it as root"},
	{"incus-admin", Fail, Critical, "a container can mount / and write it as root"},
	{"disk", Fail, Critical, "reads and writes the raw disk, past every permission"},
	{"shadow", Fail, Critical, "reads the password hashes of all accounts"},
	{"kmem", Fail, Critical, "reads the memory of the kernel"},
	{"libvirt", Fail, Critical, "a virtual machine of root's can be given the disk of the host"},
	{"sudo", Warn, High, "becomes root with a password"},
	{"wheel", Warn, High, "becomes root with a password"},
	{"admin", Warn, High, "becomes root with a password"},
	{"adm", Warn, Medium, "reads the logs of the system"},
	{"systemd-journal", Warn, Medium, "reads the logs of the system"},
	{"staff", Warn, Medium, "on Debian it may write below /usr/local"},
	{"kvm", Warn, Info, "runs virtual machines"},
}

// acceptance is what is said where the owner has accepted a client who can
// become root.
const acceptance = "accepted at installation (--accept-admin-client): nothing is protected from this client"

// root is a failure of a check about becoming root, or what the owner accepted
// in its place.
func (v *verifier) becomesRoot(evidence, remedy string) outcome {
	if v.t.AcceptAdminClient {
		return warn(evidence+"; "+acceptance, remedy)
	}
	return fail(evidence, remedy)
}

// checkPrivilege is about the client itself: who can become root without a
// password needs no hole in anything of ours.
func (v *verifier) checkPrivilege(ctx context.Context) {
	v.add(ctx, Check{ID: "privilege.sudo", Title: "the client cannot become root or the service without a password", Severity: Critical}, v.sudoTried)
	v.add(ctx, Check{ID: "privilege.rules", Title: "no sudo rule lets the client run something without a password", Severity: High}, v.sudoRules)
	v.add(ctx, Check{ID: "privilege.groups", Title: "the client is in no group that amounts to root", Severity: Critical},
		func(ctx context.Context) outcome { return v.powerGroups(ctx, Fail) })
	v.add(ctx, Check{ID: "privilege.admin", Title: "the client cannot become root with a password", Severity: High},
		func(ctx context.Context) outcome { return v.powerGroups(ctx, Warn) })
	v.add(ctx, Check{ID: "privilege.engines", Title: "the client reaches no container engine that runs as root", Severity: Critical}, v.engines)
}

func isPower(group string) bool {
	return slices.ContainsFunc(powers, func(p power) bool { return p.name == group })
}

func (v *verifier) powerGroups(ctx context.Context, class Class) outcome {
	in, err := v.clientGroups(ctx)
	if err != nil {
		return lookedUp(err)
	}
	var found []string
	var name string
	worst := Info
	for _, p := range powers {
		// On macOS staff is everybody's primary group and opens nothing.
		if p.class != class || !slices.Contains(in, p.name) || v.t.OS == MacOS && p.name == "staff" {
			continue
		}
		found = append(found, p.name+" ("+p.why+")")
		if rank(p.severity) > rank(worst) || name == "" {
			worst, name = p.severity, p.name
		}
	}
	if len(found) == 0 {
		return pass(fmt.Sprintf("%d groups looked for", len(powers)))
	}
	evidence := v.t.Client + " is in " + strings.Join(found, ", ")
	if class == Fail {
		return v.becomesRoot(evidence, v.leave(v.t.Client, name))
	}
	o := warn(evidence, "with the password of this user nothing is protected; better, run the agent as a user in none of these groups")
	o.severity = worst
	return o
}

func rank(s Severity) int { return slices.Index([]Severity{Info, Medium, High, Critical}, s) }

// sudoers are programs that give another user's rights, and how each is asked
// to run a command without asking anything back and without what it remembers.
func sudoers(as string) [][]string {
	return [][]string{
		{"/usr/bin/sudo", "-n", "-k", "-u", as, "--", "true"},
		{"/usr/local/bin/sudo", "-n", "-k", "-u", as, "--", "true"},
		{"/usr/bin/doas", "-n", "-u", as, "true"},
	}
}

// sudoDenials are the ways in which sudo, sudo-rs and doas say, in the C
// locale, that nothing happens without a password. Every other failure might
// be a broken sudo that works tomorrow.
var sudoDenials = []string{
	"a password is required", "interactive authentication is required", "is not in the sudoers file", "may not run sudo",
	"is not allowed to", "authentication required", "authorization required", "operation not permitted", "i'm sorry",
}

func (v *verifier) sudoTried(ctx context.Context) outcome {
	who := v.t.client()
	installed := 0
	for _, as := range []string{"root", v.t.ServiceUser} {
		for _, args := range sudoers(as) {
			// One child each: a sudo that waits for a name server must not cost the
			// others their time.
			ans, err := v.ask(ctx, who, []op{{Do: doRun, Args: args}})
			if err != nil {
				return v.couldNot(err)
			}
			r := ans.Results[0]
			switch {
			case r.Errno == "ENOENT":
				continue
			case !controlled(doRun, ans.Controls):
				return unknown("the control could not run a program of its own: "+described(ans.Controls[doRun]), "")
			case r.Errno != "" && r.Errno != "EACCES":
				return unknown(fmt.Sprintf("%s could not be started: %s", args[0], described(r)), "")
			case r.Errno == "" && r.Code == 0:
				return v.becomesRoot(fmt.Sprintf("as %s: `%s` ran", who, strings.Join(args, " ")),
					"remove the NOPASSWD rule (sudo -l -U "+v.t.Client+" shows it; sudo visudo edits it)")
			case r.Errno == "" && !denied(r.Text):
				return unknown(fmt.Sprintf("%s ended with %d: %s", args[0], r.Code, said(r.Text)), "")
			}
			installed++
		}
	}
	if installed == 0 {
		return pass("neither sudo nor doas is installed")
	}
	return pass("sudo -n refused")
}

func denied(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(sudoDenials, func(d string) bool { return strings.Contains(text, d) })
}

// sudoRules reads what sudo says about the client, for the rules that permit
// some commands only: which of them sudoTried would have to try is not known.
func (v *verifier) sudoRules(ctx context.Context) outcome {
	const sudo = "/usr/bin/sudo"
	var r result
	if v.root {
		problem, err := v.walk.folder("/usr/bin")
		if err != nil || problem != "" {
			return unknown("not asked: "+said(problem), "")
		}
		r = rootRun(ctx, sudo, "-n", "-l", "-U", v.t.Client)
	} else {
		ans, err := v.ask(ctx, v.t.client(), []op{{Do: doRun, Args: []string{sudo, "-n", "-l"}}})
		if err != nil {
			return v.couldNot(err)
		}
		r = ans.Results[0]
	}
	switch {
	case r.Errno == "ENOENT":
		return pass("sudo is not installed")
	case r.Errno != "":
		return unknown("sudo could not be asked: "+described(r), "")
	}
	if r.Code != 0 && !denied(r.Text) {
		return unknown(fmt.Sprintf("sudo ended with %d: %s", r.Code, said(r.Text)), "")
	}
	return v.judgeRules(freeRules(r.Text))
}

// judgeRules fails on a rule that is as good as a shell, and warns of others:
// a rule for a command whose depths nobody here knows.
func (v *verifier) judgeRules(rules []rule) outcome {
	const remedy = "remove the NOPASSWD rule with: sudo -k visudo"
	var open, narrow []string
	for _, r := range rules {
		if r.reaches(v.t.ServiceUser) && r.opens() {
			open = append(open, r.String())
		} else {
			narrow = append(narrow, r.String())
		}
	}
	switch {
	case len(open) > 0:
		return v.becomesRoot("a way to a shell without a password: "+said(few(open)), remedy)
	case len(narrow) > 0:
		return warn("without a password: "+said(few(narrow)), "a command that runs as another user may be a way out: "+remedy)
	}
	return pass("no rule without a password")
}

// rule is one command of `sudo -l` that needs no password.
type rule struct {
	as      string // "root", "ALL : ALL", "bob"
	command string // with its arguments; "ALL"
}

func (r rule) String() string { return "(" + r.as + ") " + r.command }

// reaches says whether the rule leads to root or the service user. What is not
// understood does.
func (r rule) reaches(service string) bool {
	users, _, _ := strings.Cut(r.as, ":")
	for u := range strings.SplitSeq(users, ",") {
		switch u = strings.TrimSpace(u); {
		case u == "", u == "ALL", u == "root", u == service, strings.ContainsAny(u, "#%+!"):
			return true
		}
	}
	return false
}

// doors are programs that do whatever their arguments or their user say:
// started as somebody, they are that somebody. A pattern, and a folder, may be
// any of them.
var doors = []string{
	"ALL", "apt", "apt-get", "awk", "bash", "busybox", "chmod", "chown", "chroot", "cp", "crontab", "dash", "dd", "dnf", "docker",
	"doas", "dpkg", "ed", "emacs", "env", "ex", "find", "gawk", "gdb", "git", "install", "journalctl", "ksh", "launchctl", "less", "ln",
	"lua", "machinectl", "make", "man", "mawk", "more", "mount", "mv", "nano", "nice", "node", "nohup", "nsenter", "osascript", "perl",
	"php", "pip", "pip3", "pkexec", "podman", "python", "python3", "rpm", "rsync", "ruby", "rvim", "screen", "script", "sed", "setpriv",
	"sh", "ssh", "strace", "su", "sudo", "sudoedit", "systemctl", "systemd-run", "tar", "tee", "timeout", "tmux", "unshare", "useradd",
	"usermod", "vi", "view", "vim", "vipw", "visudo", "watch", "xargs", "yum", "zsh",
}

func (r rule) opens() bool {
	name, _, _ := strings.Cut(r.command, " ")
	return strings.ContainsAny(name, "*?[") || strings.HasSuffix(name, "/") || slices.Contains(doors, filepath.Base(name))
}

// freeRules reads `sudo -l` and returns the commands that need no password.
// Tags hold until another one takes them back:
//
//	(root) NOPASSWD: /bin/a, /bin/b, PASSWD: /bin/c
//
// A default of !authenticate frees them all.
func freeRules(text string) []rule {
	var out []rule
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "!authenticate") {
			out = append(out, rule{"ALL", "ALL"})
			continue
		}
		rest, ok := strings.CutPrefix(line, "(")
		if !ok {
			continue
		}
		as, rest, ok := strings.Cut(rest, ")")
		if !ok {
			continue
		}
		free := false
		for command := range strings.SplitSeq(rest, ", ") {
			command = strings.TrimSpace(command)
			for {
				tag, after, ok := strings.Cut(command, ": ")
				if !ok || strings.ToUpper(tag) != tag || strings.ContainsAny(tag, "/ ") {
					break
				}
				switch tag {
				case "NOPASSWD":
					free = true
				case "PASSWD":
					free = false
				}
				command = strings.TrimSpace(after)
			}
			if free && command != "" && !strings.HasPrefix(command, "!") {
				out = append(out, rule{as, command})
			}
		}
	}
	return out
}

// rootRun runs a program of the system as root, with nothing of the client's
// in reach.
func rootRun(ctx context.Context, name string, args ...string) result {
	ctx, cancel := context.WithTimeout(ctx, childTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = childEnv()
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	var out limited
	cmd.Stdout, cmd.Stderr = &out, &out
	return ended(cmd.Run(), out.String())
}

// engineSockets are where container engines listen whose root is the host's.
var engineSockets = []string{
	"/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock",
	"/run/crio/crio.sock", "/var/lib/lxd/unix.socket", "/var/snap/lxd/common/lxd/unix.socket", "/var/lib/incus/unix.socket",
}

// engines really connects: a socket that takes the client takes its orders.
func (v *verifier) engines(ctx context.Context) outcome {
	who := v.t.client()
	var ops []op
	for _, s := range engineSockets {
		ops = append(ops, op{Do: doConnect, Path: s})
	}
	all, err := v.must(ctx, who, ops)
	if err != nil {
		return v.couldNot(err)
	}
	found := attempts{who: who, control: all.control}
	for i, r := range all.results {
		if r.Errno != "ENOENT" { // here the absence of an engine is what is hoped for
			found.ops, found.results = append(found.ops, ops[i]), append(found.results, r)
		}
	}
	if len(found.ops) == 0 {
		return pass("no container engine listens here")
	}
	o := found.outcome("take "+v.t.Client+" out of the group of that socket, then log in anew", "EACCES")
	if o.class == Fail {
		return v.becomesRoot(o.evidence, o.remedy)
	}
	return o
}
