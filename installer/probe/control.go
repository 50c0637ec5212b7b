package probe

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// controls makes, for each kind of attempt in the request, the same attempt on
// an object that this user may use. A kind whose control does not end as
// controlled says proves nothing here.
func controls(req request) map[string]result {
	out := map[string]result{}
	file := filepath.Join(req.Control, "file")
	var stand *standing
	for _, o := range req.Ops {
		if _, ok := out[o.Do]; ok {
			continue
		}
		switch o.Do {
		case doOpen, doWrite, doRemove:
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				out[o.Do] = failed(err)
				continue
			}
			out[o.Do] = try(op{Do: o.Do, Path: file})
			os.Remove(file)
		case doList, doCreate, doLstat:
			out[o.Do] = try(op{Do: o.Do, Path: req.Control})
		case doConnect:
			out[o.Do] = controlConnect(filepath.Join(req.Control, "sock"))
		case doRun:
			out[o.Do] = try(op{Do: o.Do, Args: []string{req.Program, Subcommand, "true"}})
		case doSignal, doTrace, doMemory, doFds:
			if stand == nil {
				var err error
				if stand, err = startStanding(req.Program); err != nil {
					out[o.Do] = failed(err)
					continue
				}
				defer stand.stop()
			}
			out[o.Do] = try(stand.instead(o))
		}
	}
	return out
}

// controlled says whether the control of an attempt ended as it must. One that
// was not made did not.
func controlled(do string, controls map[string]result) bool {
	r, ok := controls[do]
	if !ok {
		return false
	}
	switch do {
	case doRemove:
		return r.Errno == "ENOTDIR" // permitted, and refused for being a file
	case doRun:
		return r.Errno == "" && r.Code == 0
	}
	return r.Errno == ""
}

func controlConnect(path string) result {
	l, err := net.Listen("unix", path)
	if err != nil {
		return failed(err)
	}
	defer l.Close()
	return tryConnect(path)
}

// standing is a process of the same user, for the controls that need one.
type standing struct {
	cmd *exec.Cmd
	in  io.Closer
}

func startStanding(program string) (*standing, error) {
	cmd := exec.Command(program, Subcommand, "stand")
	cmd.Env = childEnv()
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &standing{cmd, in}
	// It must have become the program before it is looked at: until then it is
	// a copy of us, and hidden like us.
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *standing) stop() {
	s.in.Close()
	s.cmd.Wait()
}

// instead is the same attempt on this process.
func (s *standing) instead(o op) op {
	pid := s.cmd.Process.Pid
	if o.Path != "" && runtime.GOOS == "linux" {
		o.Path = fmt.Sprintf("/proc/%d/%s", pid, filepath.Base(o.Path))
	}
	o.PID = pid
	return o
}
