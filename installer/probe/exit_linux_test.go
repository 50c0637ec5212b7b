package probe

import "golang.org/x/sys/unix"

// exit ends a child of a test at once. os.Exit would wait a second for further
// reports under the race detector, and a run of the checks has forty children.
func exit(code int) {
	unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(code), 0, 0)
}
