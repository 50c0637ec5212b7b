package platform

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Entries names what is in a folder, at most eight of them.
func (f *Files) Entries(name string) ([]string, error) {
	if f.Paper {
		return nil, nil
	}
	h, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	names, err := h.Readdirnames(8)
	if err == io.EOF {
		err = nil
	}
	return names, err
}

// RemoveDir removes an empty folder. None is no error.
func (f *Files) RemoveDir(name string) error {
	switch err := unix.Rmdir(name); {
	case err == nil:
		f.mutated("rmdir " + name)
		return f.syncDir(filepath.Dir(name))
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		names, _ := f.Entries(name)
		return fmt.Errorf("%s is not empty: it holds %s", name, strings.Join(printables(names), ", "))
	default:
		return &fs.PathError{Op: "rmdir", Path: name, Err: err}
	}
}

// RemoveTree removes a folder and all that is in it, links not followed.
func (f *Files) RemoveTree(name string) error {
	if err := f.CheckParents(name); err != nil {
		return err
	}
	// Emptied first, so that a kill in between leaves the folder itself: the
	// receipt still names it.
	names, err := os.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, e := range names {
		if err := root.RemoveAll(e.Name()); err != nil {
			return err
		}
		f.mutated("remove " + filepath.Join(name, e.Name()))
	}
	return f.RemoveDir(name)
}

// GiveTree gives a folder and the folders and files in it to one owner and the
// folder the mode; what is inside keeps its modes, set-id bits excepted. While
// it works the folder is root's alone, so that nobody comes in; a process that
// was in it already can still change what is below, so each object is judged
// and given by the descriptor it was opened with.
//
// What the old owner made there cannot stop it: a file with a second name,
// which could be anything, keeps its owner, and so does whatever is neither a
// file nor a folder, for nobody gains anything by owning a link or a socket in
// a folder that is not his.
func (f *Files) GiveTree(name string, o Owner) error {
	if err := f.SetOwner(name, Owner{Mode: 0o700}); err != nil {
		return err
	}
	dir, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = f.giveEntries(dir, o)
	dir.Close()
	if err != nil {
		return err
	}
	return f.SetOwner(name, o)
}

func (f *Files) giveEntries(dir *os.File, o Owner) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		at := filepath.Join(dir.Name(), name)
		// Looked at first, because to open a device can do something.
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return &fs.PathError{Op: "lstat", Path: at, Err: err}
		}
		if kind := uint32(st.Mode) & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
			continue
		}
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
			continue // it became something else just now
		}
		if err != nil {
			return &fs.PathError{Op: "open", Path: at, Err: err}
		}
		h := os.NewFile(uintptr(fd), at)
		err = f.giveOne(h, o)
		h.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *Files) giveOne(h *os.File, o Owner) error {
	fi, err := h.Stat()
	if err != nil {
		return err
	}
	info := infoOf(fi)
	if !info.IsDir() && (!info.IsRegular() || info.Nlink != 1) {
		return nil
	}
	if info.IsRegular() && info.Mode&0o6000 != 0 {
		if err := unix.Fchmod(int(h.Fd()), info.Mode&^0o6000); err != nil {
			return &fs.PathError{Op: "chmod", Path: h.Name(), Err: err}
		}
		f.mutated("chmod " + h.Name())
	}
	if info.UID != o.UID || info.GID != o.GID {
		if err := h.Chown(int(o.UID), int(o.GID)); err != nil {
			return err
		}
		f.mutated("chown " + h.Name())
	}
	if info.IsDir() {
		return f.giveEntries(h, o)
	}
	return nil
}

func printables(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = printable(n)
	}
	return out
}
