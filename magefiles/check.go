//go:build mage

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Test runs every check there is: format, vet for all systems, each fuzzer for
// some seconds, then all tests (race detector where there is a C compiler).
// It passes without root and then names what root would have run.
func Test() error {
	var failed []string
	note := func(what string, err error) {
		if err != nil {
			fmt.Printf("%s: %v\n", what, err)
			failed = append(failed, what)
		}
	}
	note("format", format())
	note("vet", Vet())
	note("fuzz", fuzz(cmp.Or(os.Getenv("FUZZTIME"), "3s")))

	// Last, so that go's own summary closes the output.
	err := tests()
	if len(failed) > 0 {
		return errors.Join(err, fmt.Errorf("failed before the tests: %s; see above", strings.Join(failed, ", ")))
	}
	return err
}

// Unit runs the tests alone, without vet and fuzzers.
func Unit() error { return tests() }

// E2E runs the tests of the programs, which install, attack and uninstall with
// real users; it needs root.
func E2E() error {
	if os.Getuid() != 0 {
		return errors.New("e2e: root is needed: the tests make throw-away users\nhint: sudo env \"PATH=$PATH\" go tool mage e2e")
	}
	return run(nil, "go", "test", "-count=1", "-timeout=30m", "-v", "./gateway/cmd/...", "./shims/cmd/...", "./installer/cmd/...")
}

// Lint checks the format, vets, and holds the packages to the layer table.
func Lint() error {
	return errors.Join(format(), Vet(), run(nil, "go", "test", "-count=1", "./gateway"))
}

// Vet runs go vet as on every system Carapace is for.
func Vet() error {
	var errs []error
	for _, t := range targets {
		env := []string{"CGO_ENABLED=0", "GOOS=" + t.goos, "GOARCH=" + t.goarch}
		// -trimpath as in a build, so that both share what was compiled.
		fmt.Printf("vet: %s/%s\n", t.goos, t.goarch)
		errs = append(errs, run(env, "go", "vet", "-trimpath", "-tags=mage", "./..."))
	}
	return errors.Join(errs...)
}

// Fuzz runs every fuzzer for FUZZTIME (10s unless set; FUZZTIME=10m for a long
// run). FUZZ=regexp chooses among them.
func Fuzz() error { return fuzz(cmp.Or(os.Getenv("FUZZTIME"), "10s")) }

// format names the files that gofmt would change.
func format() error {
	root, err := goEnv("GOROOT")
	if err != nil {
		return err
	}
	gofmt := filepath.Join(root, "bin", "gofmt")
	if _, err := os.Stat(gofmt); err != nil {
		gofmt = "gofmt"
	}
	out, err := exec.Command(gofmt, "-l", ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("gofmt: %w\n%s", err, out)
	}
	if len(out) > 0 {
		return fmt.Errorf("gofmt would change these files; run gofmt -w on them:\n%s", out)
	}
	fmt.Println("format: ok")
	return nil
}

// fuzzer is one fuzz target.
type fuzzer struct{ dir, name string }

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// fuzzers finds the fuzz targets in the source.
func fuzzers() ([]fuzzer, error) {
	only, err := regexp.Compile(os.Getenv("FUZZ"))
	if err != nil {
		return nil, fmt.Errorf("FUZZ: %w", err)
	}
	var found []fuzzer
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "dist" || len(d.Name()) > 1 && d.Name()[0] == '.') {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fuzzFunc.FindAllSubmatch(src, -1) {
			if name := string(m[1]); only.MatchString(name) {
				found = append(found, fuzzer{filepath.Dir(path), name})
			}
		}
		return nil
	})
	return found, err
}

var fuzzProgress = regexp.MustCompile(`execs: (\d+)`)

// fuzz runs each fuzzer for a while.
func fuzz(budget string) error {
	all, err := fuzzers()
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range all {
		out, err := fuzzOnce(f, budget)
		for tries := 1; tries < 3 && err != nil && bytes.Contains(out, []byte("context deadline exceeded")) && !bytes.Contains(out, []byte("Failing input")); tries++ {
			// Before Go 1.27 the fuzzing engine reports its own end of time as
			// a failure when a worker answers a moment too late
			// (golang/go#75804). An input that fails is written down and named;
			// then it is not this.
			out, err = fuzzOnce(f, budget)
		}
		if err != nil {
			fmt.Printf("fuzz: %s %s: FAILED\n%s\n", f.dir, f.name, out)
			errs = append(errs, fmt.Errorf("%s %s: %w", f.dir, f.name, err))
			continue
		}
		execs := "0"
		if m := fuzzProgress.FindAllSubmatch(out, -1); m != nil {
			execs = string(m[len(m)-1][1])
		}
		fmt.Printf("fuzz: %s %s: %s inputs in %s: ok\n", f.dir, f.name, execs, budget)
	}
	return errors.Join(errs...)
}

// fuzzOnce spends the time on new inputs and none on making interesting ones
// smaller, which for a slow target would be all of it.
func fuzzOnce(f fuzzer, budget string) ([]byte, error) {
	return exec.Command("go", "test", "-run=^$", "-fuzz=^"+f.name+"$", "-fuzztime="+budget, "-fuzzminimizetime=1x", "./"+f.dir).CombinedOutput()
}

// raceFlags returns the flags that turn the race detector on, or says why it
// stays off.
func raceFlags() (flags, env []string) {
	if runtime.GOOS != "darwin" {
		if _, err := exec.LookPath(cmp.Or(os.Getenv("CC"), "gcc")); err != nil {
			fmt.Println("test: no C compiler (gcc): running without the race detector")
			return nil, nil
		}
	}
	if !slices.Contains([]string{"amd64", "arm64"}, runtime.GOARCH) {
		fmt.Printf("test: there is no race detector for %s\n", runtime.GOARCH)
		return nil, nil
	}
	return []string{"-race"}, []string{"CGO_ENABLED=1"}
}
