// Carapace-setup installs Carapace, proves that the isolation it promises is
// real, and takes it away again. It runs as root and asks before it changes
// anything.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer"
	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
	"github.com/carapace-gateway/carapace/installer/probe"
)

const name = "carapace-setup"

func main() {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		exe = "/nonexistent/" + name // every program of the release is then reported as missing
	}
	a := &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv,
		release: installer.Release{Dir: filepath.Dir(exe), Version: wire.Version},
	}
	os.Exit(a.run(os.Args[1:]))
}

// app is one run of the program.
type app struct {
	stdin, stdout, stderr *os.File
	env                   func(string) string
	release               installer.Release

	// Of tests alone: a folder before every path of the system, what is called
	// after each change, a system with another service manager and other ranges
	// of ids, whether an installation ends without being tried out, and other
	// defaults.
	root    string
	mutated func(string)
	manager func(*platform.LinuxHost)
	untried bool
	base    func(*installer.Settings) error
	patient time.Duration // how long a started gateway is waited for; 0: 30 s
}

// command is one line of the command table.
type command struct {
	name    string
	args    string // after the flags, for the usage
	summary string
	flags   []string
	run     func(*app, *options, []string) error
}

func commands() []command {
	common := []string{"answers", "yes", "json", "explain", "os", "prefix", "client", "adopt", "accept-admin-client"}
	return []command{
		{"install", "", "interactive on a terminal; with --answers FILE or --yes it asks nothing", common, (*app).install},
		{"plan", "", "what install would do, step by step; changes nothing", common, (*app).plan},
		{"verify", "", "is the isolation real? tries it, as the client and as a stranger", []string{"json", "client", "os", "prefix"}, (*app).verify},
		{"status", "", "what is installed", []string{"json", "os", "prefix"}, (*app).status},
		{"repair", "", "bring a damaged or interrupted installation to what the receipt promises", []string{"yes", "json", "explain", "os", "prefix"}, (*app).repair},
		{"uninstall", "", "undo the receipt backwards", []string{"yes", "purge", "os", "prefix"}, (*app).uninstall},
		{"tools", "import NAME PATH | list | check", "copy a real tool into the root-owned vault; what is there; is it intact", []string{"yes", "json", "sha256", "os", "prefix"}, (*app).tools},
		{"rundir", "", "make or check the socket folder; run at boot", []string{"os", "prefix"}, (*app).rundir},
		{"version", "", "print the version", nil, (*app).version},
		{"completion", "bash|zsh|fish", "print a completion script", nil, (*app).completion},
	}
}

// options are all flags of all commands.
type options struct {
	answers, os, prefix, sha256              string
	yes, json, explain, adopt, accept, purge bool
	clients                                  list
}

type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *list) Set(s string) error {
	if s == "" {
		return errors.New("an empty name")
	}
	*l = append(*l, s)
	return nil
}

// flagHelp is the text of every flag; the order is that of the usage.
var flagHelp = []struct{ name, arg, text string }{
	{"answers", "FILE", "take the answers from a file (root's alone to write)"},
	{"yes", "", "ask nothing: do it"},
	{"json", "", "print JSON"},
	{"explain", "", "say why each step is there"},
	{"client", "USER", "a user whose agents may use the gateway (repeatable)"},
	{"adopt", "", "use accounts and folders that are there already, after a checklist"},
	{"accept-admin-client", "", "install although the client can become root without a password"},
	{"purge", "", "remove state, secrets and home too"},
	{"sha256", "H", "the file that is meant, by its hash"},
	{"prefix", "DIR", "where the programs go (default " + platform.DefaultPrefix + ")"},
	{"os", "macos|linux", "the system to plan for (default: this one)"},
}

func (o *options) flagSet(c command) *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, f := range c.flags {
		switch f {
		case "answers":
			fs.StringVar(&o.answers, f, "", "")
		case "os":
			fs.StringVar(&o.os, f, "", "")
		case "prefix":
			fs.StringVar(&o.prefix, f, "", "")
		case "sha256":
			fs.StringVar(&o.sha256, f, "", "")
		case "yes":
			fs.BoolVar(&o.yes, f, false, "")
		case "json":
			fs.BoolVar(&o.json, f, false, "")
		case "explain":
			fs.BoolVar(&o.explain, f, false, "")
		case "adopt":
			fs.BoolVar(&o.adopt, f, false, "")
		case "accept-admin-client":
			fs.BoolVar(&o.accept, f, false, "")
		case "purge":
			fs.BoolVar(&o.purge, f, false, "")
		case "client":
			fs.Var(&o.clients, f, "")
		}
	}
	return fs
}

// usageError is a wrong command line (64).
type usageError struct{ error }

// Unwrap keeps the hints in reach.
func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitError ends with a code and says nothing more.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// errRoot is 77.
var errRoot = errors.New("root is needed")

func (a *app) run(args []string) int {
	if len(args) > 0 && args[0] == probe.Subcommand {
		return probe.Child(args[1:], a.stdin, a.stdout)
	}
	// Whatever the caller's: the commands that are run inherit it. What is made
	// here gets its mode by name.
	syscall.Umask(0o022)
	err := a.dispatch(args)
	if err == nil {
		return wire.ExitOK
	}
	a.complain(err)
	return code(err)
}

func (a *app) dispatch(args []string) error {
	word := "install"
	if len(args) > 0 {
		switch first := args[0]; {
		case first == "-h", first == "-help", first == "--help":
			word = "help"
		case first == "-version", first == "--version":
			word, args = "version", args[1:]
		case !strings.HasPrefix(first, "-"):
			word, args = first, args[1:]
		}
	}
	if word == "help" {
		fmt.Fprint(a.stdout, a.usage())
		return nil
	}
	for _, c := range commands() {
		if c.name != word {
			continue
		}
		var o options
		rest, err := parse(o.flagSet(c), args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(a.stdout, usageOf(c))
			return nil
		}
		if err != nil {
			return usageError{plan.WithHint(err, fmt.Sprintf("%s %s --help", name, c.name))}
		}
		if len(rest) > 0 && c.args == "" {
			return usageError{plan.WithHint(fmt.Errorf("unexpected argument %q", rest[0]), fmt.Sprintf("%s %s --help", name, c.name))}
		}
		switch o.os {
		case "", platform.Linux, platform.MacOS:
		default:
			return usagef("--os %q: want macos or linux", o.os)
		}
		return c.run(a, &o, rest)
	}
	return usageError{plan.WithHint(fmt.Errorf("unknown command %q", word), name+" --help")}
}

// parse reads flags wherever they stand; "--" ends them.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		left := fs.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

func (a *app) usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s [COMMAND] [FLAGS]\n\nInstalls Carapace, proves that the isolation is real, takes it away again.\n\n", name)
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-11s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(&b, "\nWithout a command: install. %s COMMAND --help says more.\n", name)
	return b.String()
}

func usageOf(c command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s %s", name, c.name)
	if c.args != "" {
		fmt.Fprintf(&b, " %s", c.args)
	}
	if len(c.flags) > 0 {
		b.WriteString(" [FLAGS]")
	}
	fmt.Fprintf(&b, "\n\n%s.\n", strings.ToUpper(c.summary[:1])+c.summary[1:])
	if len(c.flags) > 0 {
		b.WriteString("\n")
	}
	for _, f := range flagHelp {
		for _, has := range c.flags {
			if has == f.name {
				fmt.Fprintf(&b, "  %-24s %s\n", strings.TrimSpace("--"+f.name+" "+f.arg), f.text)
			}
		}
	}
	return b.String()
}

// code is the exit code of an error (interface §1).
func code(err error) int {
	var (
		exit     exitError
		usage    usageError
		conflict *plan.ConflictError
		partial  *plan.PartialError
	)
	switch {
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage):
		return wire.ExitUsage
	case errors.As(err, &conflict), errors.Is(err, plan.ErrReceipt):
		return wire.ExitConflict
	case errors.As(err, &partial), errors.Is(err, plan.ErrStopped):
		return wire.ExitPartial
	case errors.Is(err, plan.ErrBusy):
		return wire.ExitTryLater
	case errors.Is(err, errRoot):
		return wire.ExitNotPermitted
	}
	return wire.ExitFailed
}

// complain says what went wrong, and what a person can do about it.
func (a *app) complain(err error) {
	var exit exitError
	if errors.As(err, &exit) {
		return
	}
	var (
		conflict *plan.ConflictError
		partial  *plan.PartialError
	)
	each := func(head string, ts []plan.Trouble) {
		a.say("%s", head)
		said := make(map[string]bool)
		for i, t := range ts {
			for _, line := range strings.Split(t.Err.Error(), "\n") {
				a.say("%s: %s", t.Title, line)
			}
			if i+1 < len(ts) && slices.Equal(plan.Hints(t.Err), plan.Hints(ts[i+1].Err)) {
				continue // the next one ends with the same
			}
			for _, h := range plan.Hints(t.Err) {
				if !said[h] {
					a.say("hint: %s", h)
				}
				said[h] = true
			}
		}
	}
	switch {
	case errors.As(err, &conflict):
		each(fmt.Sprintf("nothing was changed; %s in the way:", count(len(conflict.Conflicts), "thing is", "things are")), conflict.Conflicts)
	case errors.As(err, &partial):
		each(fmt.Sprintf("not undone, and still in the receipt: %s:", count(len(partial.Left), "step", "steps")), partial.Left)
		a.say("hint: cure what is named, then: sudo -k %s uninstall", name)
	default:
		for _, line := range strings.Split(err.Error(), "\n") {
			a.say("%s", line)
		}
		a.hints(err)
		var step *plan.StepError
		if errors.As(err, &step) || errors.Is(err, plan.ErrStopped) {
			a.say("hint: the receipt says how far it came: %s install goes on from there, %s uninstall goes back", name, name)
		}
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (a *app) hints(err error) {
	for _, h := range plan.Hints(err) {
		a.say("hint: %s", h)
	}
}

// say prints one line to a person. Whatever is foreign in it cannot move the
// cursor or begin a line of its own.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, "%s: %s\n", name, wire.Escape(fmt.Sprintf(format, args...)))
}

// line prints one line of what was asked for.
func (a *app) line(format string, args ...any) {
	fmt.Fprintln(a.stdout, wire.Escape(fmt.Sprintf(format, args...)))
}

func (a *app) colour(f *os.File) bool {
	return a.env("NO_COLOR") == "" && a.env("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

func (a *app) version(*options, []string) error {
	a.line("%s %s", name, a.release.Version)
	return nil
}

// isRoot reports whether the program may change anything.
func isRoot() bool { return os.Geteuid() == 0 }

func needRoot(what string) error {
	if isRoot() {
		return nil
	}
	return plan.WithHint(errRoot, fmt.Sprintf("sudo -k %s %s", name, what))
}

// hostOS is this system by the names of interface §3.
func hostOS() string {
	if runtime.GOOS == "darwin" {
		return platform.MacOS
	}
	return runtime.GOOS
}
