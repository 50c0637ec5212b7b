package adapter

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// termGrace is what a child has between the request to end and the kill.
	termGrace = 2 * time.Second
	// drainDelay is how long its pipes are read after a child ended, for the
	// case that something it left behind still holds them.
	drainDelay = 500 * time.Millisecond
)

// process is one child: leader of a session and a process group of its own.
// Whoever started it reads out and errs to their end and calls finish.
type process struct {
	pid  int
	in   *os.File // nil when the child was given no input
	out  *os.File
	errs *os.File
	done chan struct{} // closed when the child is reaped and its group is gone

	mu     sync.Mutex
	reaped bool
	state  *os.ProcessState // set before done is closed
}

// start runs argv at path. Everything that can be wrong is an error here; once
// it returns a process, the tool runs.
func (s *Spec) start(path string, argv []string, input bool) (*process, error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if err := seal(); err != nil {
		return nil, err
	}
	var theirs, keep []*os.File
	drop := func(files []*os.File) {
		for _, f := range files {
			f.Close()
		}
	}
	pipe := func(childReads bool) (*os.File, *os.File, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, fmt.Errorf("pipe to the tool: %w", err)
		}
		if childReads {
			theirs, keep = append(theirs, r), append(keep, w)
			return r, w, nil
		}
		theirs, keep = append(theirs, w), append(keep, r)
		return w, r, nil
	}
	p := &process{done: make(chan struct{})}
	cmd := &exec.Cmd{Path: path, Args: argv, Env: s.environ(), Dir: s.Dir, SysProcAttr: attributes()}
	err := func() error {
		var err error
		var f *os.File
		if input {
			if f, p.in, err = pipe(true); err != nil {
				return err
			}
			cmd.Stdin = f
		}
		if f, p.out, err = pipe(false); err != nil {
			return err
		}
		cmd.Stdout = f
		if f, p.errs, err = pipe(false); err != nil {
			return err
		}
		cmd.Stderr = f
		return nil
	}()
	if err != nil {
		drop(theirs)
		drop(keep)
		return nil, err
	}
	started := make(chan error, 1)
	go p.tend(cmd, started)
	err = <-started
	drop(theirs)
	if err != nil {
		drop(keep)
		return nil, fmt.Errorf("start the tool: %w", err)
	}
	return p, nil
}

// tend starts and reaps the child. Its thread is held for the child's whole
// life because the kernel sends the death signal when the *thread* that forked
// ends, not the process.
func (p *process) tend(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	if awaitExit(p.pid) {
		// The zombie still holds its number, so the group cannot be anybody
		// else's yet.
		p.mu.Lock()
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		_ = cmd.Wait() // how it ended is in the state
		p.state, p.reaped = cmd.ProcessState, true
		p.mu.Unlock()
	} else {
		_ = cmd.Wait()
		p.mu.Lock()
		p.state, p.reaped = cmd.ProcessState, true
		p.mu.Unlock()
	}
	close(p.done)
	deadline := time.Now().Add(drainDelay)
	_ = p.out.SetReadDeadline(deadline)
	_ = p.errs.SetReadDeadline(deadline)
}

// signal reaches the whole group, and nobody once the child was reaped.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = syscall.Kill(-p.pid, sig)
	}
}

// kill ends the group without asking.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

// stop asks the group to end, and kills it when it does not. It returns when
// the child is gone.
func (p *process) stop() {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(termGrace):
	}
	p.kill()
	<-p.done
}

// finish closes our ends of the pipes. Call it when done is closed and the
// readers have returned.
func (p *process) finish() {
	if p.in != nil {
		p.in.Close()
	}
	p.out.Close()
	p.errs.Close()
}

// ending says how the child ended, and whether it ended by its own exit.
func (p *process) ending() (code int, exited bool, words string) {
	<-p.done
	if p.state == nil {
		return 0, false, "its end was not seen"
	}
	if ws, ok := p.state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 0, false, "it was ended by signal " + strconv.Itoa(int(ws.Signal()))
	}
	return p.state.ExitCode(), true, "it ended with code " + strconv.Itoa(p.state.ExitCode())
}
