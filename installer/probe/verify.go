package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// remedyRoot is what to do about a check that needs root (interface §3).
const remedyRoot = "sudo -k carapace-setup verify"

// verifier is one run.
type verifier struct {
	t        Target
	root     bool
	acc      platform.Accounts
	walk     *walker
	progress func(Check)
	only     map[string]bool // nil: every check
	checks   []Check

	program    string // what children run
	programErr error  // why they do not

	service    platform.User
	serviceErr error

	absent map[string]string // protected objects that are not there, and who said so

	server    wire.Identity // who listens at the client socket
	serverErr error
}

// Verify tries whether the isolation of t.Client from the installation is
// real. It changes nothing but what trying leaves: a message to the reserved
// peer verify-ok, a dead letter of one to verify-stranger, their audit records,
// and what sudo logs about a refusal. progress, unless nil, is told of every
// check as it ends. When ctx ends, what was not yet tried is unknown.
func Verify(ctx context.Context, t Target, progress func(Check)) Report {
	return newVerifier(ctx, t, progress).run(ctx)
}

func newVerifier(ctx context.Context, t Target, progress func(Check)) *verifier {
	v := &verifier{t: t, root: t.Root && os.Geteuid() == 0, walk: &walker{os: t.OS}, progress: progress, acc: t.Accounts}
	if v.acc == nil {
		v.acc = hostAccounts(t.OS)
	}
	v.service, v.serviceErr = v.acc.User(ctx, t.ServiceUser)
	if v.serviceErr != nil {
		v.serviceErr = fmt.Errorf("the service account: %w", v.serviceErr)
	}
	v.findProgram()
	v.server, v.serverErr = identify(t.Facts.Socket)
	v.findAbsent(ctx)
	return v
}

func (v *verifier) run(ctx context.Context) Report {
	// The order of macos.md §8.1: what everything rests on first.
	v.checkInstallation(ctx)
	v.checkAccounts(ctx)
	v.checkPrivilege(ctx)
	v.checkCode(ctx)
	v.checkFiles(ctx)
	v.checkSockets(ctx)
	v.checkLive(ctx)
	v.checkProcess(ctx)
	v.checkStranger(ctx)

	r := Report{OS: v.t.OS, Client: v.t.Client, Checks: v.checks}
	r.OK = r.Exit() == wire.ExitOK
	return r
}

func hostAccounts(os string) platform.Accounts {
	if os == MacOS {
		return platform.NewMac(platform.Paths{OS: os}, false, nil)
	}
	return platform.NewLinux(platform.Paths{OS: os}, nil)
}

// findProgram decides what the children run. As root that is the installed
// program and nothing else, for it will run as the service user too.
func (v *verifier) findProgram() {
	v.program = v.t.SelfExe
	if v.program == "" && !v.root {
		v.program, v.programErr = os.Executable()
		return
	}
	if !v.root {
		return
	}
	problem, err := v.walk.file(v.program)
	if problem != "" {
		err = errors.New(problem)
	}
	if err != nil {
		v.programErr = fmt.Errorf("no probe was run: %w", err)
	}
}

// outcome is how a check ended, before it has a name.
type outcome struct {
	class            Class
	severity         Severity // empty: that of the check
	evidence, remedy string
}

func pass(evidence string) outcome            { return outcome{class: Pass, evidence: evidence} }
func warn(evidence, remedy string) outcome    { return outcome{Warn, "", evidence, remedy} }
func fail(evidence, remedy string) outcome    { return outcome{Fail, "", evidence, remedy} }
func unknown(evidence, remedy string) outcome { return outcome{Unknown, "", evidence, remedy} }

// couldNot is a check whose child gave no answer.
func (v *verifier) couldNot(err error) outcome {
	remedy := "look at the evidence, then: " + remedyRoot
	if errors.Is(err, errNeedsRoot) {
		remedy = remedyRoot
	}
	return unknown(said(err.Error()), remedy)
}

// add runs a check that the client could run too.
func (v *verifier) add(ctx context.Context, c Check, run func(context.Context) outcome) {
	c.Needs = NeedsSelf
	v.end(ctx, c, run)
}

// addRoot runs a check that only root can run. Without root it does not
// count (interface §3).
func (v *verifier) addRoot(ctx context.Context, c Check, run func(context.Context) outcome) {
	c.Needs = NeedsRoot
	if !v.root {
		c.Severity = Info
		run = func(context.Context) outcome { return unknown("only root can try this", remedyRoot) }
	}
	v.end(ctx, c, run)
}

func (v *verifier) end(ctx context.Context, c Check, run func(context.Context) outcome) {
	if v.only != nil && !v.only[c.ID] {
		return
	}
	o := unknown("interrupted", remedyRoot)
	if ctx.Err() == nil {
		o = run(ctx)
		if ctx.Err() != nil && o.class != Fail {
			o = unknown("interrupted", remedyRoot)
		}
	}
	c.Class, c.Evidence, c.Remedy = o.class, o.evidence, o.remedy
	if o.severity != "" {
		c.Severity = o.severity
	}
	if c.Class == Pass {
		c.Remedy = ""
	}
	v.checks = append(v.checks, c)
	if v.progress != nil {
		v.progress(c)
	}
}

// attempts are attempts that must fail, and what came of them.
type attempts struct {
	who     ident
	control map[string]result
	absent  map[string]string
	ops     []op
	results []result
}

// must runs attempts that must fail as who.
func (v *verifier) must(ctx context.Context, who ident, ops []op) (attempts, error) {
	ans, err := v.ask(ctx, who, ops)
	return attempts{who, ans.Controls, v.absent, ops, ans.Results}, err
}

// refused runs attempts that must end with one of the errors in want, and with
// no other.
func (v *verifier) refused(ctx context.Context, who ident, ops []op, remedy string, want ...string) outcome {
	a, err := v.must(ctx, who, ops)
	if err != nil {
		return v.couldNot(err)
	}
	return a.outcome(remedy, want...)
}

// outcome judges the attempts: one that succeeded fails the check, else one
// that proves nothing makes it unknown.
func (a attempts) outcome(remedy string, want ...string) outcome {
	var granted, unclear []string
	for i, o := range a.ops {
		r := a.results[i]
		ok := false
		for _, w := range want {
			ok = ok || r.Errno == w
		}
		switch {
		case permitted(o.Do, r):
			granted = append(granted, done(o))
		case !ok:
			unclear = append(unclear, fmt.Sprintf("%s: %s where %s was expected", named(o), described(r), strings.Join(want, " or ")))
		case a.absent[o.Path] != "":
			unclear = append(unclear, a.absent[o.Path])
		case !controlled(o.Do, a.control):
			unclear = append(unclear, fmt.Sprintf("%s: %s, but so it may be for everybody: the control ended with %q", named(o), r.Errno, described(a.control[o.Do])))
		}
	}
	switch {
	case len(a.ops) == 0:
		return unknown("there is nothing to try", "")
	case len(granted) > 0:
		return fail(fmt.Sprintf("as %s: %s", a.who, few(granted)), remedy)
	case len(unclear) > 0:
		return unknown(fmt.Sprintf("as %s: %s", a.who, few(unclear)), remedyRoot)
	}
	return pass(fmt.Sprintf("as %s: %s for %d attempts, and the controls succeeded", a.who, strings.Join(want, " or "), len(a.ops)))
}

// permitted says whether a result means that the kernel gave permission, be
// it that the attempt ended with an error after that.
func permitted(do string, r result) bool {
	switch do {
	case doRemove:
		return r.Errno == "" || r.Errno == "ENOTDIR" || r.Errno == "ENOTEMPTY"
	case doWrite:
		return r.Errno == "" || r.Errno == "ETXTBSY" // a running program, and the permission was there
	}
	return r.Errno == ""
}

// named and done put an attempt into words, before and after.
func named(o op) string {
	if o.Path == "" {
		return fmt.Sprintf("%s of process %d", o.Do, o.PID)
	}
	return o.Do + " " + o.Path
}

func done(o op) string {
	switch o.Do {
	case doOpen, doMemory:
		return "opened " + o.Path
	case doList, doFds:
		return "listed " + o.Path
	case doWrite:
		return "opened " + o.Path + " for writing"
	case doCreate:
		return "made a file in " + o.Path
	case doRemove:
		return "could remove or replace " + o.Path
	case doConnect:
		return "connected to " + o.Path
	case doSignal:
		return fmt.Sprintf("could signal process %d", o.PID)
	case doTrace:
		return fmt.Sprintf("attached to process %d", o.PID)
	}
	return o.Do + " " + o.Path
}

// described puts a result into words.
func described(r result) string {
	switch {
	case r.Errno == "?":
		return said(r.Text)
	case r.Errno != "":
		return r.Errno
	case r.Code != 0:
		return fmt.Sprintf("exit %d: %s", r.Code, said(r.Text))
	case r.Text != "":
		return said(r.Text)
	}
	return "success"
}

// few lists the first of many.
func few(list []string) string {
	const show = 3
	if len(list) <= show {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:show], "; "), len(list)-show)
}
