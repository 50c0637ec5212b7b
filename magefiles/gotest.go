//go:build mage

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
}

// tally is what a run of the tests came to.
type tally struct {
	passed, failed int
	needRoot       []string // "package Test: reason"
	otherSkips     []string
	summary        []string // go's own line for each package
	output         map[string][]string
}

// tests runs the tests of all packages. Failures are shown as they happen; what
// was skipped, and go's own line for each package, come last.
func tests() error {
	flags, env := raceFlags()
	t := tally{output: make(map[string][]string)}
	defer t.print()
	if os.Getuid() != 0 {
		fmt.Println("test: running without root: the checks that need it are skipped and named below")
		return t.run(env, slices.Concat(flags, []string{"./..."}))
	}
	fmt.Println("test: running as root: the checks that need throw-away users run too")
	// Those of the installer compare the whole machine before and after, so
	// nothing else may make accounts meanwhile.
	out, err := exec.Command("go", "list", "./...").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	var together, alone []string
	for _, p := range strings.Fields(string(out)) {
		if strings.Contains(p, "/carapace/installer") {
			alone = append(alone, p)
		} else {
			together = append(together, p)
		}
	}
	err = t.run(env, slices.Concat(flags, together))
	return cmp.Or(err, t.run(env, slices.Concat(flags, []string{"-p=1"}, alone)))
}

// run runs go test with args and takes what it says into the tally.
func (t *tally) run(env, args []string) error {
	cmd := exec.Command("go", append([]string{"test", "-json", "-count=1", "-timeout=25m"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				os.Stdout.Write(line)
			} else {
				t.add(e)
			}
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.ExitCode() > 0 {
		return exit{"go test", failed.ExitCode()}
	}
	return err
}

// add takes one event into the tally and shows what should not wait.
func (t *tally) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Print(e.Output)
	case "output":
		if e.Test == "" && isSummary(e.Output) {
			t.summary = append(t.summary, strings.TrimRight(e.Output, "\n"))
			return
		}
		t.output[key] = append(t.output[key], e.Output)
	case "pass":
		if e.Test != "" {
			t.passed++
		} else {
			fmt.Printf("test: %s\n", last(t.summary))
		}
		delete(t.output, key)
	case "skip":
		if e.Test != "" {
			t.skip(e, t.output[key])
		}
		delete(t.output, key)
	case "fail":
		if e.Test != "" {
			t.failed++
			fmt.Printf("FAIL: %s %s\n", e.Package, e.Test)
		}
		for _, line := range t.output[key] {
			fmt.Print(line)
		}
		delete(t.output, key)
	}
}

// skip notes a skipped test with the reason that it gave.
func (t *tally) skip(e event, output []string) {
	reason := "no reason given"
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			// "file_test.go:12: reason"
			if _, after, ok := strings.Cut(line, ".go:"); ok {
				if _, text, ok := strings.Cut(after, ": "); ok {
					line = text
				}
			}
			reason = line
		}
	}
	_, short, _ := strings.Cut(e.Package, "/carapace/")
	entry := fmt.Sprintf("%s %s: %s", short, e.Test, reason)
	if strings.Contains(reason, "needs root") {
		t.needRoot = append(t.needRoot, entry)
	} else {
		t.otherSkips = append(t.otherSkips, entry)
	}
}

// print closes the output: what was not checked, then go's own summary.
func (t *tally) print() {
	if len(t.otherSkips) > 0 {
		fmt.Printf("\n%d checks skipped:\n  %s\n", len(t.otherSkips), strings.Join(t.otherSkips, "\n  "))
	}
	if len(t.needRoot) > 0 {
		fmt.Printf("\n%d checks need root and were skipped:\n  %s\n", len(t.needRoot), strings.Join(t.needRoot, "\n  "))
		fmt.Println(`To run them too: sudo env "PATH=$PATH" go tool mage test`)
	}
	fmt.Printf("\n%d tests passed, %d failed, %d skipped\n\n", t.passed, t.failed, len(t.needRoot)+len(t.otherSkips))
	for _, line := range t.summary {
		fmt.Println(line)
	}
}

// isSummary recognises go's own line for a package.
func isSummary(line string) bool {
	for _, p := range []string{"ok  \t", "FAIL\t", "?   \t", "---\t"} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return false
}

func last(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}
