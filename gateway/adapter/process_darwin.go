package adapter

import (
	"errors"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// awaitExit returns true when the child has ended, and leaves it to be reaped;
// false when that cannot be observed.
func awaitExit(pid int) bool {
	kq, err := unix.Kqueue()
	if err != nil {
		return false
	}
	defer unix.Close(kq)
	change := make([]unix.Kevent_t, 1)
	unix.SetKevent(&change[0], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	change[0].Fflags = unix.NOTE_EXIT
	event := make([]unix.Kevent_t, 1)
	for {
		n, err := unix.Kevent(kq, change, event, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ESRCH):
			return true // it ended before we could ask: a zombie has no events
		case err != nil:
			return false
		case n > 0:
			return event[0].Flags&unix.EV_ERROR == 0 || event[0].Data == int64(unix.ESRCH)
		}
	}
}

// markAll sets close-on-exec on everything past the standard descriptors.
func markAll() error { return markEach("/dev/fd") }

// changed is the inode's own change time: what mtime can be set back over.
func changed(info fs.FileInfo) [2]int64 {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return [2]int64{sys.Ctimespec.Sec, sys.Ctimespec.Nsec}
	}
	return [2]int64{}
}
