//go:build mage

// Package main is how Carapace is built, installed and tested: targets of
// `go tool mage`, which needs nothing but Go and git. They are thin: each one
// says what it runs and runs `go`.
//
// They promise that what they print last is what matters, that a target ends
// with the exit code of what it ran, and that a check which was skipped is
// named and counted, never passed over.
//
// They refuse to hide a privilege: the only target that asks for root is
// install, and it says so before it does.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Default is what `go tool mage` does without a word: it lists the targets.
var Default = Help

// programs are the main packages that are shipped, by the name of the program
// (interface §1). One that is not written yet is left out of a build, and said
// to be.
var programs = []struct{ name, dir, systems string }{
	{"carapace-setup", "installer/cmd/carapace-setup", "linux darwin"},
	{"carapaced", "gateway/cmd/carapaced", "linux darwin"},
	{"carapacectl", "gateway/cmd/carapacectl", "linux darwin"},
	{"carapace-shim", "shims/cmd/carapace-shim", "linux darwin"},
	{"carapace-relay", "shims/cmd/carapace-relay", "linux darwin"},
	{"carapace-imsg-helper", "gateway/cmd/carapace-imsg-helper", "darwin"},
}

// targets are the systems Carapace is built for.
var targets = []struct{ goos, goarch string }{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"},
}

// Help lists the targets.
func Help() error { return run(nil, "go", "tool", "mage", "-l") }

// Build builds all programs into dist/, without cgo and without paths of this
// machine. GOOS and GOARCH choose another system.
func Build() error {
	goos, err := goEnv("GOOS")
	if err != nil {
		return err
	}
	return buildInto("dist", goos, nil)
}

// BuildAll builds all programs for every system they are for, into
// dist/OS_ARCH/.
func BuildAll() error {
	for _, t := range targets {
		dir := filepath.Join("dist", t.goos+"_"+t.goarch)
		if err := buildInto(dir, t.goos, []string{"GOOS=" + t.goos, "GOARCH=" + t.goarch}); err != nil {
			return err
		}
	}
	return nil
}

func buildInto(dir, goos string, env []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		if !strings.Contains(p.systems, goos) {
			continue
		}
		if !hasGo(p.dir) {
			fmt.Printf("build: %s is not written yet; left out\n", p.name)
			continue
		}
		out := filepath.Join(dir, p.name)
		err := run(append([]string{"CGO_ENABLED=0"}, env...), "go", "build", "-trimpath", "-buildvcs=false",
			"-ldflags", "-s -w", "-o", out, "./"+p.dir)
		if err != nil {
			return fmt.Errorf("build %s: %w", p.name, err)
		}
		fmt.Printf("build: %s\n", out)
	}
	return nil
}

// Install builds and then runs `carapace-setup install`: interactive, as root
// (by sudo if need be). SETUP_ARGS adds flags: SETUP_ARGS="--yes --client
// alice".
func Install() error {
	if os.Getenv("GOOS") != "" && os.Getenv("GOOS") != runtime.GOOS {
		return errors.New("install: GOOS is set to another system; use the build target and copy dist/ there")
	}
	if err := Build(); err != nil {
		return err
	}
	setup, err := filepath.Abs(filepath.Join("dist", "carapace-setup"))
	if err != nil {
		return err
	}
	args := append([]string{setup, "install"}, strings.Fields(os.Getenv("SETUP_ARGS"))...)
	if os.Getuid() != 0 {
		sudo, err := exec.LookPath("sudo")
		if err != nil {
			return fmt.Errorf("install: root is needed to make accounts and services, and sudo was not found\nhint: as root: %s", strings.Join(args, " "))
		}
		fmt.Printf("install: root is needed to make the service account, its files and its service; running:\n  sudo %s\n", strings.Join(args, " "))
		args = append([]string{sudo, "--"}, args...)
	}
	return run(nil, args[0], args[1:]...)
}

// Bench measures what Carapace costs, side by side with what it is compared
// to. The whole table needs root; BENCH_ARGS="-runs 200" adds flags.
func Bench() error {
	if err := Build(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "carapace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, src := range map[string]string{
		"bench": "./magefiles/bench",
		"empty": "./magefiles/bench/testdata/empty",
		"imsg":  "./gateway/channel/imsg/fakeimsg",
	} {
		if !hasGo(src) {
			fmt.Printf("bench: %s is not written yet; what needs it is skipped\n", src)
			continue
		}
		err := run([]string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w",
			"-o", filepath.Join(dir, name), src)
		if err != nil {
			return err
		}
	}
	args := []string{"-dist", "dist", "-parts", dir}
	return run(nil, filepath.Join(dir, "bench"), append(args, strings.Fields(os.Getenv("BENCH_ARGS"))...)...)
}

// CI does what the continuous integration does: builds for every system, then
// Test.
func CI() error {
	if err := BuildAll(); err != nil {
		return err
	}
	return Test()
}

// Clean removes dist/.
func Clean() error { return os.RemoveAll("dist") }

// hasGo reports whether a folder of the module has Go files.
func hasGo(dir string) bool {
	files, _ := filepath.Glob(filepath.Join(dir, "*.go"))
	return len(files) > 0
}

// goEnv asks the go command for a setting, so that GOFLAGS and go/env files
// count.
func goEnv(key string) (string, error) {
	out, err := exec.Command("go", "env", key).Output()
	if err != nil {
		return "", fmt.Errorf("go env %s: %w", key, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// exit is the failure of a program that has already said what was wrong. Mage
// ends with its code.
type exit struct {
	name string
	code int
}

func (e exit) Error() string   { return fmt.Sprintf("%s ended with exit code %d", e.name, e.code) }
func (e exit) ExitStatus() int { return e.code }

// run runs a program on this terminal, with env added to the environment.
func run(env []string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.ExitCode() > 0 {
		return exit{filepath.Base(name), failed.ExitCode()}
	}
	return err
}
