package wire

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a connected Unix socket outside the runtime's network poller. To
// set that up, and to hand over between the goroutine that reads and the one
// that waits, takes a fifth of the time that a one-shot client lives.
type socket struct {
	mu     sync.Mutex
	fd     int
	users  int // that are in a system call on fd
	closed bool
}

// connectSocket connects to path. EAGAIN means that the queue of the server is
// full.
func connectSocket(path string) (*socket, error) {
	fd, err := newSocket(func() (int, error) { return unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0) })
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := ignoringEINTR(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) }); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return &socket{fd: fd}, nil
}

// newSocket makes a descriptor that no child inherits and that never blocks.
// Linux could do it in one call, macOS cannot.
func newSocket(make func() (int, error)) (int, error) {
	syscall.ForkLock.RLock()
	fd, err := make()
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// with runs call on the descriptor, which stays open for that long.
func (s *socket) with(call func(fd int) error) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return os.ErrClosed
	}
	s.users++
	s.mu.Unlock()
	err := ignoringEINTR(func() error { return call(s.fd) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	if s.closed {
		if s.users == 0 {
			unix.Close(s.fd)
		}
		if err != nil {
			return os.ErrClosed
		}
	}
	return err
}

// close ends the connection and wakes whoever waits on it.
func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	unix.Shutdown(s.fd, unix.SHUT_RDWR)
	if s.users == 0 {
		unix.Close(s.fd)
	}
}

// peer asks the kernel who listens at the other end.
func (s *socket) peer() (id Identity, err error) {
	err = s.with(func(fd int) error {
		id, err = peerOf(fd)
		return err
	})
	return id, err
}

// slice is how long a system call may wait before the context is looked at.
const slice = 50 * time.Millisecond

// await waits until the socket is ready for events or has ended. It returns
// os.ErrDeadlineExceeded at until (never, if that is zero) and the error of
// ctx when that ends.
func (s *socket) await(ctx context.Context, events int16, until time.Time) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		timeout := time.Duration(-1)
		if ctx.Done() != nil {
			timeout = slice
		}
		if !until.IsZero() {
			left := time.Until(until)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			if timeout < 0 || left < timeout {
				timeout = left
			}
		}
		ms := -1
		if timeout >= 0 {
			ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
		}
		ready := 0
		err := s.with(func(fd int) (err error) {
			ready, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, ms)
			return err
		})
		if err != nil || ready > 0 {
			return err
		}
	}
}

// eager is how long a first answer is looked for before the process goes to
// sleep over it. What the gateway can say at once is there sooner than a
// sleeper is woken, and that is most of what a ping takes beyond the start.
const eager = 150 * time.Microsecond

// read reads once, waiting as await does.
func (s *socket) read(ctx context.Context, p []byte, until time.Time) (n int, err error) {
	// On one processor the gateway could not run meanwhile. Who has been
	// answered before (until is zero) may wait for hours.
	var awake time.Time
	if !until.IsZero() && runtime.NumCPU() > 1 {
		awake = time.Now().Add(eager)
	}
	for {
		if awake.IsZero() || time.Now().After(awake) {
			if err := s.await(ctx, unix.POLLIN, until); err != nil {
				return 0, err
			}
		}
		err := s.with(func(fd int) (err error) {
			n, err = unix.Read(fd, p)
			return err
		})
		switch {
		case errors.Is(err, unix.EAGAIN):
		case err != nil:
			return 0, err
		case n <= 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// write writes all of p, waiting as await does. An error leaves the connection
// unfit for anything that follows unless nothing was written.
func (s *socket) write(ctx context.Context, p []byte, until time.Time) (written int, err error) {
	for len(p) > 0 {
		n := 0
		err := s.with(func(fd int) (err error) {
			n, err = unix.Write(fd, p)
			return err
		})
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := s.await(ctx, unix.POLLOUT, until); err != nil {
				return written, err
			}
		case err != nil:
			return written, err
		default:
			written += n
			p = p[n:]
		}
	}
	return written, nil
}
