package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// failed turns an error into a result. An error of the kernel keeps its name,
// because the name is what an attempt passes on.
func failed(err error) result {
	if err == nil {
		return result{}
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if name := unix.ErrnoName(errno); name != "" {
			return result{Errno: name}
		}
	}
	return result{Errno: "?", Text: err.Error()}
}

// again repeats a system call that a signal interrupted: the runtime sends
// itself signals.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func tryLstat(path string) result {
	var st unix.Stat_t
	if err := again(func() error { return unix.Lstat(path, &st) }); err != nil {
		return failed(err)
	}
	return result{Stat: &stat{Mode: uint32(st.Mode), UID: st.Uid, GID: st.Gid}}
}

// tryOpen never creates, truncates, follows a last link, or waits for the
// other end of a pipe.
func tryOpen(path string, how int) result {
	fd, err := open(path, how)
	if err != nil {
		return failed(err)
	}
	unix.Close(fd)
	return result{}
}

func open(path string, how int) (fd int, err error) {
	err = again(func() error {
		fd, err = unix.Open(path, how|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

func tryList(path string) result {
	fd, err := open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return failed(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if _, err := f.Readdirnames(1); err != nil && err != io.EOF {
		return failed(err)
	}
	return result{}
}

// freshName cannot exist: nobody could have guessed it.
func freshName() string {
	var b [16]byte
	rand.Read(b[:])
	return ".carapace-probe-" + hex.EncodeToString(b[:])
}

func tryCreate(dir string) result {
	path := filepath.Join(dir, freshName())
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return failed(err)
	}
	unix.Close(fd)
	if err := again(func() error { return unix.Unlink(path) }); err != nil {
		return result{Text: "made " + path + " and could not remove it: " + err.Error()}
	}
	return result{}
}

// tryRemove asks whether an entry of a folder could be taken out or renamed,
// without a way to do it: rmdir(2) of something that is no folder fails with
// ENOTDIR once the permission was granted, and with EACCES when it was not.
func tryRemove(path string) result {
	return failed(again(func() error { return unix.Rmdir(path) }))
}

func tryConnect(path string) result {
	c, err := net.DialTimeout("unix", path, attemptTime)
	if err != nil {
		return failed(err)
	}
	c.Close()
	return result{}
}

func trySignal(pid int) result {
	if pid <= 1 {
		return result{Errno: "?", Text: "no process to signal"}
	}
	return failed(unix.Kill(pid, 0))
}

// attemptTime bounds one attempt that can wait for somebody else.
const attemptTime = 4 * time.Second

// tryRun runs a program and says how it ended, whatever that was; only a
// program that could not be started has an Errno.
func tryRun(args []string) result {
	if len(args) == 0 || !filepath.IsAbs(args[0]) {
		return result{Errno: "?", Text: "no program"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = childEnv()
	cmd.Dir = "/"
	var out limited
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	return ended(cmd.Run(), out.String())
}

// ended says how a program ended that said text.
func ended(err error, text string) result {
	text = strings.ToValidUTF8(text, "?")
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return result{Code: exit.ExitCode(), Text: text}
	}
	if errors.Is(err, fs.ErrNotExist) { // exec looks before the kernel does
		return result{Errno: "ENOENT"}
	}
	if err != nil {
		return failed(err)
	}
	return result{Text: text}
}

// limited keeps the beginning of what a program says and swallows the rest.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := 16<<10 - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
