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

// GiveTree gives a folder and all that is in it to one owner and the folder
// the mode; what is inside keeps its modes. Nothing is followed. While it works
// the folder is root's alone, so that nobody is in it.
func (f *Files) GiveTree(name string, o Owner) error {
	if err := f.SetOwner(name, Owner{Mode: 0o700}); err != nil {
		return err
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		fi, err := root.Lstat(p)
		if err != nil {
			return err
		}
		info := infoOf(fi)
		if info.UID == o.UID && info.GID == o.GID {
			return nil
		}
		if info.IsRegular() && info.Nlink != 1 {
			return fmt.Errorf("%s has %d names: its owner is left alone", filepath.Join(name, printable(p)), info.Nlink)
		}
		if err := root.Lchown(p, int(o.UID), int(o.GID)); err != nil {
			return err
		}
		f.mutated("chown " + filepath.Join(name, p))
		return nil
	})
	if err != nil {
		return err
	}
	return f.SetOwner(name, o)
}

func printables(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = printable(n)
	}
	return out
}
