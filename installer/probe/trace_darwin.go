package probe

import "golang.org/x/sys/unix"

// hide keeps this process out of core dumps and out of the hands of debuggers.
func hide() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.PtraceDenyAttach()
}

// tryTrace is not tried on macOS: ptrace(2) stops a process in a way that a
// wrong attempt could not undo.
func tryTrace(int) result {
	return result{Errno: "?", Text: "not tried on macOS"}
}
