// Carapaced is the gateway daemon. It runs as the service user and decides
// what an AI agent may send, to whom, how often, and what it may see.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/carapace-gateway/carapace/gateway/config"
	"github.com/carapace-gateway/carapace/gateway/ctl/offline"
	"github.com/carapace-gateway/carapace/gateway/daemon"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

const usage = `usage: carapaced [--config FILE] [--state DIR] [--run DIR] [--spool DIR] [--check]

Carapaced runs as the service user, never as root. The service definition
that carapace-setup installs gives every path; by hand, after
"carapace-setup rundir":

    sudo -u carapace /usr/local/carapace/libexec/carapaced

  --config FILE  configuration, root's alone to write (default %s)
  --state DIR    audit log, dead letters, mailboxes (default %s)
  --run DIR      socket folder (default %s)
  --spool DIR    inbound files for clients (default %s)
  --check        read the configuration, say what is wrong with it, and end
  --version      print the version
`

func main() {
	if len(os.Args) > 1 && os.Args[1] == "ctl" {
		// Not the daemon at all, but the half of carapacectl that needs what
		// only this executable links. It may run as anybody.
		os.Exit(offline.Run(context.Background(), os.Args[2:], os.Stdin, os.Stdout, os.Stderr, os.Geteuid()))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	o := defaults(runtime.GOOS)
	flags := flag.NewFlagSet("carapaced", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	check := flags.Bool("check", false, "")
	version := flags.Bool("version", false, "")
	flags.StringVar(&o.Config, "config", o.Config, "")
	flags.StringVar(&o.State, "state", o.State, "")
	flags.StringVar(&o.Run, "run", o.Run, "")
	flags.StringVar(&o.Spool, "spool", o.Spool, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		d := defaults(runtime.GOOS)
		fmt.Fprintf(stdout, usage, d.Config, d.State, d.Run, d.Spool)
		return wire.ExitOK
	case err != nil:
		return complain(stderr, wire.ExitUsage, err, "carapaced --help")
	case flags.NArg() > 0:
		return complain(stderr, wire.ExitUsage, fmt.Errorf("unexpected argument %q", flags.Arg(0)), "carapaced --help")
	}
	if *version {
		fmt.Fprintln(stdout, "carapaced", wire.Version)
		return wire.ExitOK
	}
	if *check {
		c, err := config.Load(o.Config)
		if err != nil {
			return complain(stderr, wire.ExitFailed, err, "correct the file, then: carapaced --check --config "+o.Config)
		}
		fmt.Fprintf(stdout, "ok: %s, policy %s\n", o.Config, c.Policy.SHA256)
		return wire.ExitOK
	}
	if os.Geteuid() == 0 || os.Getuid() == 0 {
		return complain(stderr, wire.ExitNotPermitted, errors.New("does not run as root: the gateway holds credentials, not power"),
			"start it as the service user: sudo systemctl start carapace, or sudo -u carapace carapaced")
	}
	if err := harden(); err != nil {
		return complain(stderr, wire.ExitFailed, err, "")
	}

	o.Level = new(slog.LevelVar)
	o.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.Level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := daemon.Run(ctx, o); err != nil {
		return complain(stderr, wire.ExitFailed, err, "the configuration can be tried with: carapaced --check --config "+o.Config)
	}
	return wire.ExitOK
}

// defaults are the paths of interface §2.
func defaults(goos string) daemon.Options {
	if goos == "darwin" {
		return daemon.Options{Config: config.DefaultPath(goos), State: "/var/db/carapace", Run: "/var/run/carapace", Spool: "/var/spool/carapace"}
	}
	return daemon.Options{Config: config.DefaultPath(goos), State: "/var/lib/carapace", Run: "/run/carapace", Spool: "/var/spool/carapace"}
}

// harden takes from this process, and from every child it will have, what
// nobody needs: core dumps hold messages, and files are nobody else's.
func harden() error {
	syscall.Umask(0o077)
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return undumpable()
}

func complain(w io.Writer, code int, err error, hint string) int {
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintf(w, "carapaced: %s\n", line)
	}
	if hint != "" {
		fmt.Fprintf(w, "carapaced: hint: %s\n", hint)
	}
	return code
}
