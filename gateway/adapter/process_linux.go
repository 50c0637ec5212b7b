package adapter

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit returns true when the child has ended, and leaves it to be reaped;
// false when that cannot be observed.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// markAll sets close-on-exec on everything past the standard descriptors.
func markAll() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return markEach("/proc/self/fd") // before Linux 5.11, or under a filter that does not know the call
	}
	if err != nil {
		return fmt.Errorf("close-on-exec: %w", err)
	}
	return nil
}

// changed is the inode's own change time: what mtime can be set back over.
func changed(info fs.FileInfo) [2]int64 {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return [2]int64{int64(sys.Ctim.Sec), int64(sys.Ctim.Nsec)}
	}
	return [2]int64{}
}
