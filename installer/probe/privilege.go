package probe

import (
	"context"
	"fmt"
	"os/exec"
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
			case !controlled(doRun, ans.Controls[doRun]):
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

// sudoRules reads what sudo says about the client: evidence beside the
// attempt, for rules that permit some commands only.
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
	if rules := freeRules(r.Text); len(rules) > 0 {
		return warn("rules without a password: "+said(strings.Join(rules, "; ")),
			"a command that runs as another user is a way out: remove the NOPASSWD rule with sudo visudo")
	}
	if r.Code != 0 && !denied(r.Text) {
		return unknown(fmt.Sprintf("sudo ended with %d: %s", r.Code, said(r.Text)), "")
	}
	return pass("no NOPASSWD rule")
}

// freeRules picks the lines of `sudo -l` that need no password.
func freeRules(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "NOPASSWD:") || strings.Contains(line, "!authenticate") {
			out = append(out, strings.TrimSpace(line))
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
