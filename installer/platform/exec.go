package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Runner runs administration commands. The zero Runner is ready.
type Runner struct {
	Timeout time.Duration // of one command; 0: 30 s
	// Mutated is called after each command that changes the system; tests die
	// in it. It may be nil.
	Mutated func(what string)
}

// maxOutput bounds what is kept of each stream of a command: listings of users
// are the largest.
const maxOutput = 4 << 20

// Result is how a command ended.
type Result struct {
	Exit   int
	Stdout string
	Stderr string
}

// CommandError is a command that did not do what it was asked.
type CommandError struct {
	Name   string // base name
	Exit   int    // -1 when it was ended by a signal or never started
	Signal syscall.Signal
	Line   string // the last line it complained with, printable
	Err    error  // why it could not run or was ended; nil after an exit
}

func (e *CommandError) Error() string {
	var b strings.Builder
	b.WriteString(e.Name)
	switch {
	case e.Err != nil:
		fmt.Fprintf(&b, ": %v", e.Err)
	case e.Signal != 0:
		fmt.Fprintf(&b, ": ended by signal %d (%v)", int(e.Signal), e.Signal)
	default:
		fmt.Fprintf(&b, ": exit %d", e.Exit)
	}
	if e.Line != "" {
		fmt.Fprintf(&b, ": %s", e.Line)
	}
	return b.String()
}

// Unwrap returns why the command could not run.
func (e *CommandError) Unwrap() error { return e.Err }

// Read runs a command that changes nothing. A code other than 0 is in the
// result and no error: what it means is the caller's to know.
func (r *Runner) Read(ctx context.Context, path string, args ...string) (Result, error) {
	return r.run(ctx, path, args)
}

// Write runs a command that changes the system. A code other than 0 is a
// *CommandError.
func (r *Runner) Write(ctx context.Context, path string, args ...string) (Result, error) {
	res, err := r.run(ctx, path, args)
	if r.Mutated != nil {
		r.Mutated(filepath.Base(path) + " " + strings.Join(args, " "))
	}
	if err == nil && res.Exit != 0 {
		err = &CommandError{Name: filepath.Base(path), Exit: res.Exit, Line: lastLine(res)}
	}
	return res, err
}

func (r *Runner) run(ctx context.Context, path string, args []string) (Result, error) {
	name := filepath.Base(path)
	if !filepath.IsAbs(path) {
		return Result{Exit: -1}, &CommandError{Name: name, Exit: -1, Err: errors.New("not an absolute path: a bug")}
	}
	limit := r.Timeout
	if limit == 0 {
		limit = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	// A process group of its own: Ctrl-C in the terminal must not kill a half
	// done change of accounts.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	var stdout, stderr bounded
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	res := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if cmd.ProcessState != nil {
		res.Exit = cmd.ProcessState.ExitCode()
	} else {
		res.Exit = -1
	}
	if stdout.over || stderr.over {
		return res, &CommandError{Name: name, Exit: res.Exit, Err: fmt.Errorf("more than %d bytes of output", maxOutput)}
	}
	switch {
	case ctx.Err() != nil:
		why := ctx.Err()
		if errors.Is(why, context.DeadlineExceeded) {
			why = fmt.Errorf("no answer within %v", limit)
		}
		return res, &CommandError{Name: name, Exit: -1, Err: why, Line: lastLine(res)}
	case err == nil:
		return res, nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return res, &CommandError{Name: name, Exit: -1, Err: err}
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return res, &CommandError{Name: name, Exit: -1, Signal: ws.Signal(), Line: lastLine(res)}
	}
	return res, nil
}

// lastLine is the last complaint of a command, made printable.
func lastLine(res Result) string {
	for _, text := range []string{res.Stderr, res.Stdout} {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if s := strings.TrimSpace(lines[len(lines)-1]); s != "" {
			return printable(s)
		}
	}
	return ""
}

func printable(s string) string {
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd || (r >= 0x80 && r < 0xa0) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) {
			return '?'
		}
		return r
	}, s)
}

// bounded keeps the first maxOutput bytes and goes on reading, so that a
// command is never stopped by a full pipe.
type bounded struct {
	buf  bytes.Buffer
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxOutput - b.buf.Len(); len(p) > room {
		b.over = true
		b.buf.Write(p[:room])
	} else {
		b.buf.Write(p)
	}
	return len(p), nil
}

func (b *bounded) String() string { return b.buf.String() }
