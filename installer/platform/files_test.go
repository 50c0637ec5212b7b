package platform

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

// rootDir is a folder below which root can work: nobody else may write a
// folder above it, which rules out /tmp.
func rootDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to other owners")
	}
	base := "/opt"
	if runtime.GOOS == "darwin" {
		base = "/var/root"
	}
	dir, err := os.MkdirTemp(base, "cptest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCheckParents(t *testing.T) {
	dir := rootDir(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	mk := func(name string, mode fs.FileMode, uid int) {
		t.Helper()
		must(os.Mkdir(filepath.Join(dir, name), 0o755))
		must(os.Chown(filepath.Join(dir, name), uid, 0))
		must(os.Chmod(filepath.Join(dir, name), mode))
	}
	mk("good", 0o755, 0)
	mk("good/deep", 0o700, 0)
	mk("group", 0o775, 0)
	mk("sticky", 0o777|fs.ModeSticky, 0)
	mk("other", 0o755, 12345)
	mk("other/roots", 0o755, 0)
	must(os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	must(os.Symlink("good", filepath.Join(dir, "tolink")))
	must(os.Symlink(filepath.Join(dir, "other"), filepath.Join(dir, "toother")))
	must(os.Symlink("good", filepath.Join(dir, "others")))
	must(os.Lchown(filepath.Join(dir, "others"), 12345, 0))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	f := &Files{}
	for name, want := range map[string]string{
		"good/x": "", "good/deep/x": "", "missing/x/y": "", "tolink/x": "", "tolink/deep/x": "",
		"group/x": "mode 0775", "sticky/x": "mode 1777", "other/x": "belongs to uid 12345",
		"other/roots/x": "belongs to uid 12345", "toother/x": "belongs to uid 12345", "toother/roots/x": "belongs to uid 12345",
		"others/x": "a symbolic link", "file/x": "is a file", "loop/x": "links on the way",
	} {
		err := f.CheckParents(filepath.Join(dir, name))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if err := f.CheckParents("relative"); err == nil {
		t.Error("a relative path was taken")
	}
}

func TestWrite(t *testing.T) {
	dir := rootDir(t)
	f := &Files{}
	name := filepath.Join(dir, "file")
	owner := Owner{UID: 12345, GID: 12346, Mode: 0o640}
	sum, err := f.Write(name, strings.NewReader("hello"), owner, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Hash(name); err != nil || got != sum {
		t.Errorf("hash %s, want %s, error %v", got, sum, err)
	}
	if info, err := f.Lstat(name); err != nil || info.Owner() != owner {
		t.Errorf("owner %v, error %v", info.Owner(), err)
	}
	// Whatever was staged before is not written through.
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, Staged(name)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(name, strings.NewReader("bye"), owner, nil); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(victim); string(data) != "precious" {
		t.Errorf("the link's target is %q", data)
	}
	for what, try := range map[string]func() error{
		"a judge's no": func() error {
			_, err := f.Write(name, strings.NewReader("x"), owner, func(string, string) error { return errors.New("no") })
			return err
		},
		"a broken source": func() error {
			_, err := f.Write(name, iotest.ErrReader(errors.New("broken")), owner, nil)
			return err
		},
	} {
		if err := try(); err == nil {
			t.Errorf("%s was no error", what)
		}
		if data, _ := os.ReadFile(name); string(data) != "bye" {
			t.Errorf("after %s the file is %q", what, data)
		}
		if _, err := os.Lstat(Staged(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s left a staged file: %v", what, err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	var parent *ParentError
	if _, err := f.Write(name, strings.NewReader("x"), owner, nil); !errors.As(err, &parent) {
		t.Errorf("written below an open folder: %v", err)
	}
}

func TestSetOwner(t *testing.T) {
	dir := rootDir(t)
	f := &Files{}
	name, second, link := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "l")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	want := Owner{UID: 12345, GID: 12345, Mode: 0o640}
	if err := f.SetOwner(link, want); err == nil {
		t.Error("a link was followed")
	}
	if err := f.SetOwner(name, want); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(name, second); err != nil {
		t.Fatal(err)
	}
	if err := f.SetOwner(name, Owner{}); err == nil {
		t.Error("a file with two names was given away")
	}
	d := filepath.Join(dir, "d")
	setgid := Owner{UID: 12345, GID: 12346, Mode: 0o2750}
	if err := f.MakeDir(d, setgid); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Lstat(d); err != nil || info.Owner() != setgid {
		t.Errorf("the folder is %v, error %v", info.Owner(), err)
	}
}

func TestLink(t *testing.T) {
	dir := rootDir(t)
	f := &Files{}
	target, name := filepath.Join(dir, "target"), filepath.Join(dir, "name")
	for range 2 { // the second time it is there already
		if err := os.WriteFile(target, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := f.Link(target, name); err != nil {
			t.Fatal(err)
		}
		a, _ := f.Lstat(target)
		b, err := f.Lstat(name)
		if err != nil || a.Ino != b.Ino || a.Nlink != 2 {
			t.Errorf("inodes %d and %d, %d links, error %v", a.Ino, b.Ino, a.Nlink, err)
		}
	}
}

func TestTrees(t *testing.T) {
	dir := rootDir(t)
	f := &Files{}
	outside := filepath.Join(dir, "outside")
	if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "a/b/file"), nil, 0o604); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(tree, "a/link")); err != nil {
		t.Fatal(err)
	}
	want := Owner{UID: 12345, GID: 12346, Mode: 0o750}
	if err := f.GiveTree(tree, want); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]uint32{"": 0o750, "a": 0o755, "a/b": 0o755, "a/b/file": 0o604} {
		info, err := f.Lstat(filepath.Join(tree, name))
		if o := (Owner{UID: 12345, GID: 12346, Mode: mode}); err != nil || info.Owner() != o {
			t.Errorf("%q is %v, want %v, error %v", name, info.Owner(), o, err)
		}
	}
	if info, _ := f.Lstat(outside); info.UID != 0 {
		t.Errorf("what a link names now belongs to %d", info.UID)
	}
	if err := os.Link(outside, filepath.Join(tree, "hard")); err != nil {
		t.Fatal(err)
	}
	if err := f.GiveTree(tree, want); err != nil {
		t.Errorf("a file with two names keeps the folder from being given: %v", err)
	}
	if info, _ := f.Lstat(outside); info.UID != 0 {
		t.Errorf("a file with another name outside now belongs to %d", info.UID)
	}
	if err := f.RemoveTree(tree); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(outside); string(data) != "precious" {
		t.Errorf("what a link named is %q", data)
	}
	if err := f.RemoveTree(tree); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

// TestGiveTreeOfAnEnemy hands over a folder whose owner does not want that: no
// name, no kind of object and no mode in it keeps the rest from being handed
// over, and a set-id bit does not become the new owner's.
func TestGiveTreeOfAnEnemy(t *testing.T) {
	tree := filepath.Join(rootDir(t), "tree")
	odd := filepath.Join(tree, "\xff\xfe", "..\x1b[2J")
	if err := os.MkdirAll(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	deep := tree
	for range 40 {
		deep = filepath.Join(deep, strings.Repeat("d", 64))
	}
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(odd, "last"), filepath.Join(deep, "last"), filepath.Join(tree, "setid")} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Without the right to run it the kernel leaves this bit at a change of owner.
	if err := syscall.Chmod(filepath.Join(tree, "setid"), 0o2644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(tree, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(tree, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink("..", filepath.Join(tree, "up")); err != nil {
		t.Fatal(err)
	}
	f := &Files{}
	if err := f.GiveTree(tree, Owner{UID: 12345, GID: 12346, Mode: 0o700}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{odd, filepath.Join(odd, "last"), deep, filepath.Join(deep, "last"), filepath.Join(tree, "setid")} {
		if info, err := f.Lstat(name); err != nil || info.UID != 12345 || info.GID != 12346 || info.Mode&0o6000 != 0 {
			t.Errorf("%q is %v, error %v", name, info.Owner(), err)
		}
	}
}

func TestRemoveDirNamesWhatIsInIt(t *testing.T) {
	dir := rootDir(t)
	f := &Files{}
	if err := os.WriteFile(filepath.Join(dir, "a\x1b[2J"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveDir(dir); err == nil || !strings.Contains(err.Error(), "a?[2J") {
		t.Errorf("got %v", err)
	}
}

func TestReadAsRefuses(t *testing.T) {
	dir := t.TempDir()
	f := &Files{}
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fifo, link, dir, filepath.Join(dir, "missing")} {
		if h, _, err := f.ReadAs(name); err == nil {
			h.Close()
			t.Errorf("%s was read", name)
		}
	}
}

// TestHeadOfAPipe puts a pipe that nobody says anything into where a tool was.
func TestHeadOfAPipe(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	done := make(chan error, 1)
	go func() {
		_, err := Head(fifo, 2)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a pipe was read")
		}
	case <-time.After(10 * time.Second):
		t.Error("waits for a pipe")
	}
}

func TestPaper(t *testing.T) {
	f := &Files{Paper: true}
	if _, err := f.Lstat("/"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("on paper / exists: %v", err)
	}
	if err := f.CheckParents("/tmp/x"); err != nil {
		t.Error(err)
	}
}
