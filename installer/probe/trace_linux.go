package probe

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// hide makes the memory of this process unreadable for other processes of the
// same user, and keeps it out of core dumps.
func hide() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// tryTrace attaches to a process and lets go of it. PTRACE_SEIZE does not
// stop the process, but detaching needs it stopped for a moment.
func tryTrace(pid int) result {
	if pid <= 1 {
		return result{Errno: "?", Text: "no process to trace"}
	}
	// The kernel knows tracers by thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceSeize(pid); err != nil {
		return failed(err)
	}
	if err := unix.PtraceInterrupt(pid); err != nil {
		return result{Text: "attached, and could not stop it: " + err.Error()}
	}
	for deadline := time.Now().Add(attemptTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var ws unix.WaitStatus
		n, err := unix.Wait4(pid, &ws, unix.WALL|unix.WNOHANG, nil)
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return result{Text: "attached, and could not wait for it: " + err.Error()}
		}
		if err := unix.PtraceDetach(pid); err != nil {
			return result{Text: "attached, and could not let go: " + err.Error()}
		}
		return result{}
	}
	return result{Text: "attached, and it did not stop"}
}
