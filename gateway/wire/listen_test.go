package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListen(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = 54321
	}
	before := unix.Umask(0o022)
	unix.Umask(before)
	l, err := Listen(path, 0o660, gid)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); info.Mode() != fs.ModeSocket|0o660 || int(st.Gid) != gid {
		t.Errorf("mode %v, group %d", info.Mode(), st.Gid)
	}
	after := unix.Umask(before)
	unix.Umask(before)
	if after != before {
		t.Errorf("the umask was %o and is %o", before, after)
	}

	if _, err := Listen(path, 0o600, -1); !errors.Is(err, ErrInUse) {
		t.Errorf("a second gateway: %v", err)
	}
	if now, err := os.Lstat(path); err != nil || !os.SameFile(now, info) {
		t.Errorf("the second gateway changed the first one's socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error("again:", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	l, err = Listen(path, 0o600, -1)
	if err != nil {
		t.Fatal("after the first has ended: ", err)
	}
	// Somebody removed the socket and made another thing there: it stays.
	os.Remove(path)
	os.WriteFile(path, []byte("x"), 0o600)
	l.Close()
	if b, err := os.ReadFile(path); err != nil || string(b) != "x" {
		t.Errorf("a foreign file was removed: %v", err)
	}
}

func TestListenStale(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	ul, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ul.SetUnlinkOnClose(false)
	ul.Close()
	l, err := Listen(path, 0o600, -1)
	if err != nil {
		t.Fatalf("a socket that is left over: %v", err)
	}
	l.Close()
}

func TestListenRefuses(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	for name, make := range map[string]func() error{
		"file":             func() error { return os.WriteFile(path, []byte("x"), 0o600) },
		"folder":           func() error { return os.Mkdir(path, 0o700) },
		"link":             func() error { return os.Symlink("/nowhere", path) },
		"link to a socket": func() error { return os.Symlink("other", path) },
		"fifo":             func() error { return unix.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := make(); err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(path)
			before, _ := os.Lstat(path)
			if l, err := Listen(path, 0o600, -1); err == nil {
				l.Close()
				t.Fatal("it was taken")
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("it was touched: %v", err)
			}
		})
	}
	t.Run("lock is a link", func(t *testing.T) {
		target := filepath.Join(dir, "precious")
		os.WriteFile(target, []byte("x"), 0o600)
		os.Remove(path + ".lock")
		os.Symlink(target, path+".lock")
		defer os.Remove(path + ".lock")
		if l, err := Listen(path, 0o600, -1); err == nil {
			l.Close()
			t.Fatal("it was followed")
		}
	})
	t.Run("lock is a fifo", func(t *testing.T) {
		os.Remove(path + ".lock")
		unix.Mkfifo(path+".lock", 0o600)
		defer os.Remove(path + ".lock")
		if l, err := Listen(path, 0o600, -1); err == nil {
			l.Close()
			t.Fatal("it was taken")
		}
	})
	if _, err := Listen("relative", 0o600, -1); err == nil {
		t.Error("a relative path was taken")
	}
	if _, err := Listen("/"+strings.Repeat("x", 103), 0o600, -1); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("a long path: %v", err)
	}
}

func TestListenForeignSocket(t *testing.T) {
	as := stranger(t)
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	ul, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ul.Close()
	os.Lchown(path, int(as.Uid), int(as.Gid))
	if l, err := Listen(path, 0o600, -1); err == nil {
		l.Close()
		t.Error("another user's socket was removed")
	}
	os.Remove(path + ".lock")
	// The other way round: not root, and the socket is root's.
	os.Lchown(path, 0, 0)
	os.Chmod(dir, 0o777)
	if out := helper(t, "listen", as, "WIRE_TEST_SOCKET="+path); !strings.Contains(out, "not a socket of ours") {
		t.Errorf("got %q", out)
	}
}

func listenHelper() error {
	_, err := Listen(os.Getenv("WIRE_TEST_SOCKET"), 0o600, -1)
	fmt.Println(err)
	return nil
}

func TestPeer(t *testing.T) {
	as := stranger(t)
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	os.Chmod(dir, 0o755)
	l, err := Listen(path, 0o666, -1)
	if err != nil {
		t.Fatal(err)
	}
	who := make(chan Identity, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := &Server{Handler: HandlerFunc(func(_ context.Context, c *Conn, _ *Request) (any, error) {
		who <- c.Identity()
		return nil, nil
	})}
	go func() { done <- s.Serve(ctx, l) }()
	defer func() {
		cancel()
		<-done
	}()
	helper(t, "ping", as, "WIRE_TEST_SOCKET="+path, "WIRE_TEST_UID=0")
	if id := <-who; id.UID != as.Uid || id.GID != as.Gid || id.PID == int32(os.Getpid()) || id.PID <= 0 {
		t.Errorf("the client is %+v", id)
	}
}
