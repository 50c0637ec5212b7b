package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/carapace-gateway/carapace/installer/platform"
)

// walker looks at paths from the root down and says who else than root could
// put something else there. It only looks (lstat, readlink), and it lists a
// folder only after that folder turned out to be root's alone.
type walker struct {
	os    string
	files platform.Files
}

// folder reports why what is in a folder could be changed by others than
// root; an empty problem says that it could not. An error means that it could
// not be looked at.
func (w *walker) folder(path string) (problem string, err error) {
	if _, err := w.files.Lstat(path); err != nil {
		return "", err
	}
	return w.problem(w.files.CheckParents(filepath.Join(path, "x")))
}

func (w *walker) problem(err error) (string, error) {
	parent, ok := errors.AsType[*platform.ParentError](err)
	if !ok {
		return "", err
	}
	// macOS ships this folder as root:daemon 0775, and nobody is in daemon.
	if i := parent.Info; w.os == MacOS && parent.Parent == "/private/var/run" && i.IsDir() && i.UID == 0 && i.GID == 1 && i.Mode&0o002 == 0 {
		return "", nil
	}
	return parent.Error(), nil
}

// file reports why a program, or what its path leads to, could be changed by
// others than root. A program of ours is a regular file without set-id bits.
func (w *walker) file(path string) (problem string, err error) {
	if problem, err := w.problem(w.files.CheckParents(path)); problem != "" || err != nil {
		return problem, err
	}
	info, err := w.files.Lstat(path)
	if err != nil {
		return "", err
	}
	if info.Type == fs.ModeSymlink { // of root's, in a folder of root's: where it leads counts
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return "", err
		}
		if info, err = w.files.Lstat(real); err != nil {
			return "", err
		}
		if problem, err := w.problem(w.files.CheckParents(real)); problem != "" || err != nil {
			return problem, err
		}
	}
	return judge(path, info), nil
}

func judge(path string, i platform.Info) string {
	switch {
	case !i.IsRegular():
		return fmt.Sprintf("%s is %s", path, i.What())
	case i.UID != 0:
		return fmt.Sprintf("%s belongs to uid %d", path, i.UID)
	case !i.RootOnly():
		return fmt.Sprintf("%s can be written by others than root (mode %04o)", path, i.Mode)
	case i.Mode&0o6000 != 0:
		return fmt.Sprintf("%s has a set-id bit (mode %04o)", path, i.Mode)
	}
	return ""
}

// maxTree bounds how much of a tree is looked at. A Java tool has a few
// thousand files.
const maxTree = 50_000

// tree judges everything below a folder, and the folder with its parents. It
// returns what it found, links left out, and the first problem; it does not go
// into a folder that has one. A tree that is not there has neither.
func (w *walker) tree(top string) (files, folders []string, problem string, err error) {
	problem, err = w.folder(top)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, "", nil
	}
	if problem != "" || err != nil {
		return nil, []string{top}, problem, err
	}
	left := maxTree
	folders = []string{top}
	for todo := []string{top}; len(todo) > 0; todo = todo[1:] {
		entries, err := os.ReadDir(todo[0])
		if err != nil {
			return files, folders, problem, err
		}
		for _, e := range entries {
			if left--; left < 0 {
				return files, folders, problem, fmt.Errorf("%s holds more than %d files", top, maxTree)
			}
			path := filepath.Join(todo[0], e.Name())
			var p string
			if e.IsDir() {
				if p, err = w.folder(path); p == "" && err == nil {
					todo = append(todo, path)
				}
				folders = append(folders, path)
			} else {
				p, err = w.file(path)
				if e.Type().IsRegular() {
					files = append(files, path)
				}
			}
			if err != nil {
				return files, folders, problem, err
			}
			if problem == "" {
				problem = p
			}
		}
	}
	return files, folders, problem, nil
}
