package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// asSetup is set where this test binary is to be carapace-setup. Only a test
// binary looks at it and at the variables below.
const asSetup = "CPTEST_AS_SETUP"

func TestMain(m *testing.M) {
	if os.Getenv(asSetup) == "1" {
		os.Exit(setup())
	}
	testscript.Main(m, map[string]func(){name: func() { os.Exit(setup()) }})
}

// setup is main with the seams that tests need: a folder before every path, a
// release of their own, a stand-in for systemctl, and death after the N-th
// change.
func setup() int {
	a := &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv,
		release: installer.Release{Dir: os.Getenv("CPTEST_DIST"), Version: wire.Version},
		root:    os.Getenv("CPTEST_ROOT"),
		untried: os.Getenv("CPTEST_UNTRIED") == "1",
	}
	if v := os.Getenv("CPTEST_VERSION"); v != "" {
		a.release.Version = v
	}
	a.manager = func(l *platform.LinuxHost) {
		if dir := os.Getenv("CPTEST_SYSTEMD"); dir != "" {
			l.SystemdFlag, l.Systemctl = dir, dir+"/systemctl"
		}
		l.LoginDefs = os.Getenv("CPTEST_LOGIN_DEFS")
	}
	if file := os.Getenv("CPTEST_ASK"); file != "" {
		a.base = func(s *installer.Settings) error {
			answers, err := installer.ReadAnswers(file)
			s.Merge(answers)
			return err
		}
	}
	if v := os.Getenv("CPTEST_PATIENCE"); v != "" {
		a.patient, _ = time.ParseDuration(v)
	}
	kill, _ := strconv.Atoi(os.Getenv("CPTEST_KILL"))
	signal := syscall.SIGKILL
	if os.Getenv("CPTEST_KILL_BY") == "INT" {
		signal = syscall.SIGINT
	}
	trace := os.Getenv("CPTEST_TRACE")
	n := 0
	a.mutated = func(what string) {
		n++
		if trace != "" {
			f, err := os.OpenFile(trace, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
			if err != nil {
				panic(err)
			}
			fmt.Fprintln(f, what)
			f.Close()
		}
		if n == kill {
			syscall.Kill(os.Getpid(), signal)
			if signal == syscall.SIGKILL {
				select {} // the signal is on its way
			}
		}
	}
	return a.run(os.Args[1:])
}
