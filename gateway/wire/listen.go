package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// umask belongs to the process, so only one Listen at a time may change it.
var umask sync.Mutex

// maxSocketPath is what fits into sun_path with its end on both systems (104
// bytes on macOS, 108 on Linux).
const maxSocketPath = 103

// ErrInUse says that another gateway is listening at the path.
var ErrInUse = errors.New("another gateway is listening there")

// Listener is a listening Unix socket that nobody else can take over while it
// is open.
type Listener struct {
	file *os.File // the socket; a file in name only
	path string
	lock *os.File
	made fs.FileInfo // the socket that we bound
	once sync.Once
	err  error
}

// Listen binds a socket at path. It first takes an exclusive lock on
// path+".lock" (which stays when the listener is closed: unlinking a lock lets
// two processes hold it), and returns an error wrapping ErrInUse when somebody
// holds it. Only then does it remove a socket that a run before left behind;
// it removes nothing that is not a socket of the calling user. The socket is
// reachable by the calling user alone until its group is gid (unless gid is
// negative) and its mode is mode.
//
// The folder must be one that no other user can write.
func Listen(path string, mode fs.FileMode, gid int) (_ *Listener, err error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("listen at %s: the path is not absolute", path)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen at %s: the path is longer than %d bytes", path, maxSocketPath)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("listen at %s: %w", path, err)
		}
	}()
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if err := removeStale(path); err != nil {
		return nil, err
	}

	umask.Lock()
	old := unix.Umask(0o077)
	fd, err := listenSocket(path)
	unix.Umask(old)
	umask.Unlock()
	if err != nil {
		return nil, err
	}
	l := &Listener{file: os.NewFile(uintptr(fd), path), path: path, lock: lock}
	defer func() {
		if err != nil {
			l.file.Close()
			os.Remove(path)
		}
	}()
	if gid >= 0 {
		if err := os.Lchown(path, -1, gid); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, err
	}
	if l.made, err = os.Lstat(path); err != nil {
		return nil, err
	}
	return l, nil
}

// Path returns where the socket is.
func (l *Listener) Path() string { return l.path }

// Close stops listening, removes the socket if it is still the one that was
// bound, and lets go of the lock. Later calls do nothing.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.err = l.stop()
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
			l.err = errors.Join(l.err, os.Remove(l.path))
		}
		l.err = errors.Join(l.err, l.lock.Close())
	})
	return l.err
}

// stop lets nobody connect any more, and wakes accept.
func (l *Listener) stop() error {
	if err := l.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// accept returns the next connection.
func (l *Listener) accept() (*os.File, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var inner error
	err = raw.Read(func(listening uintptr) bool {
		inner = ignoringEINTR(func() (err error) {
			fd, err = newSocket(func() (int, error) {
				fd, _, err := unix.Accept(int(listening))
				return fd, err
			})
			return err
		})
		return inner != unix.EAGAIN
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), l.path), nil
}

// backlog is how many connections may wait to be accepted. The system lowers
// it to its own bound.
const backlog = 4096

func listenSocket(path string) (int, error) {
	fd, err := newSocket(func() (int, error) { return unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0) })
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		unix.Close(fd)
		os.Remove(path)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// removeStale removes the socket of a run before. The lock is held, so it is
// nobody's who works by these rules.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode().Type() != fs.ModeSocket || !ok || int(st.Uid) != os.Geteuid() {
		return errors.New("something is there that is not a socket of ours; it is left alone")
	}
	return os.Remove(path)
}
