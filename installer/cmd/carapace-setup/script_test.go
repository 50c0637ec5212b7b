package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// A machine of its own: nothing here is installed in it.
			root := "/nonexistent"
			if os.Geteuid() == 0 {
				dir, err := os.MkdirTemp("/opt", "cptest-")
				if err != nil {
					return err
				}
				e.Defer(func() { os.RemoveAll(dir) })
				for _, d := range []string{"dist", "usr/local", "etc/systemd/system", "etc/profile.d", "var/lib", "var/spool", "run"} {
					if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
						return err
					}
				}
				for _, p := range []string{"carapace-setup", "carapaced", "carapacectl", "carapace-shim"} {
					if err := os.WriteFile(filepath.Join(dir, "dist", p), []byte(p), 0o755); err != nil {
						return err
					}
				}
				root = dir
			}
			e.Setenv("CPTEST_DIST", filepath.Join(root, "dist"))
			e.Setenv("CPTEST_ROOT", root)
			e.Setenv("SUDO_USER", "")
			e.Setenv("ESC", "\x1b")
			return nil
		},
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Condition: func(cond string) (bool, error) { return cond == "root" && os.Geteuid() == 0, nil },
	})
}

// exits CODE PROGRAM ARG... runs a program that must end with a code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit %d, want %d", got, want)
	}
}
