package platform

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files is the file system as root may use it: every write goes into a folder
// that root alone can change, by descriptor and without following a link.
type Files struct {
	// Paper files do not exist, whatever is on this machine.
	Paper bool
	// Mutated is called after each change; tests die in it. It may be nil.
	Mutated func(what string)
}

// Info is one object, not followed.
type Info struct {
	Type  fs.FileMode // fs.ModeDir, fs.ModeSymlink …; 0: a regular file
	Mode  uint32      // the low twelve bits
	UID   uint32
	GID   uint32
	Nlink uint64
	Size  int64
	Dev   uint64
	Ino   uint64
}

// IsDir and IsRegular say what the object is.
func (i Info) IsDir() bool     { return i.Type == fs.ModeDir }
func (i Info) IsRegular() bool { return i.Type == 0 }

// What names the kind of object for a person.
func (i Info) What() string {
	switch {
	case i.IsDir():
		return "a folder"
	case i.IsRegular():
		return "a file"
	case i.Type == fs.ModeSymlink:
		return "a symbolic link"
	}
	return "neither a file nor a folder"
}

// RootOnly reports whether root owns the object and nobody else can write it.
// A POSIX access list shows its widest grant in the group bits, so it is seen.
func (i Info) RootOnly() bool { return i.UID == 0 && i.Mode&0o022 == 0 }

func infoOf(fi fs.FileInfo) Info {
	st := fi.Sys().(*syscall.Stat_t) // always so on the systems we build for
	return Info{
		Type: fi.Mode().Type(), Mode: uint32(st.Mode) & 0o7777,
		UID: st.Uid, GID: st.Gid, Nlink: uint64(st.Nlink), Size: st.Size,
		Dev: uint64(st.Dev), Ino: uint64(st.Ino),
	}
}

// Lstat looks at one object without following it. Its error wraps
// fs.ErrNotExist when there is none.
func (f *Files) Lstat(name string) (Info, error) {
	if f.Paper {
		return Info{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	fi, err := os.Lstat(name)
	if err != nil {
		return Info{}, err
	}
	return infoOf(fi), nil
}

// ParentError is a folder on the way to a name that is not root's alone.
type ParentError struct {
	Name   string // what was to be written
	Parent string
	Info   Info
}

func (e *ParentError) Error() string {
	switch {
	case !e.Info.IsDir():
		return fmt.Sprintf("%s: %s is %s", e.Name, e.Parent, e.Info.What())
	case e.Info.UID != 0:
		return fmt.Sprintf("%s: %s belongs to uid %d and not to root", e.Name, e.Parent, e.Info.UID)
	}
	return fmt.Sprintf("%s: %s has mode %04o, so others than root can change what is in it", e.Name, e.Parent, e.Info.Mode)
}

// CheckParents walks from / to the folder that holds name and demands that each
// is root's alone to write: who can write one of them can put anything in place
// of what we put there. A link on the way must be root's and is walked too.
// Folders that do not exist yet are no objection.
func (f *Files) CheckParents(name string) error {
	if f.Paper {
		return nil
	}
	return f.parents(name, filepath.Dir(name), 0)
}

func (f *Files) parents(name, dir string, depth int) error {
	if depth > 16 {
		return fmt.Errorf("%s: more than 16 links on the way", name)
	}
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%s: not an absolute path", name)
	}
	at := "/"
	for _, part := range strings.Split(strings.TrimPrefix(filepath.Clean(dir), "/"), "/") {
		if err := f.parent(name, at); err != nil {
			return err
		}
		if part == "" {
			return nil
		}
		next := filepath.Join(at, part)
		info, err := f.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Type == fs.ModeSymlink {
			if info.UID != 0 {
				return &ParentError{Name: name, Parent: next, Info: info}
			}
			to, err := os.Readlink(next)
			if err != nil {
				return err
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(at, to)
			}
			if err := f.parents(name, to, depth+1); err != nil {
				return err
			}
			if next, err = filepath.EvalSymlinks(next); err != nil {
				return err
			}
		}
		at = next
	}
	return f.parent(name, at)
}

func (f *Files) parent(name, dir string) error {
	info, err := f.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || !info.RootOnly() {
		return &ParentError{Name: name, Parent: dir, Info: info}
	}
	return nil
}

// Owner is who owns an object and what may be done with it.
type Owner struct {
	UID, GID uint32
	Mode     uint32 // the low twelve bits
}

func (o Owner) String() string { return fmt.Sprintf("%d:%d %04o", o.UID, o.GID, o.Mode) }

// Owner returns who owns the object.
func (i Info) Owner() Owner { return Owner{UID: i.UID, GID: i.GID, Mode: i.Mode} }

// MakeDir makes a folder, first for root alone and then as asked. One that is
// there already is set right when root owns it; SetOwner says what is refused.
func (f *Files) MakeDir(name string, o Owner) error {
	if err := f.CheckParents(name); err != nil {
		return err
	}
	err := os.Mkdir(name, 0o700)
	if err == nil {
		f.mutated("mkdir " + name)
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := f.SetOwner(name, o); err != nil {
		return err
	}
	return f.syncDir(filepath.Dir(name))
}

// SetOwner sets owner and mode of a folder or of a file with one name only, by
// descriptor: a second name of the file could be anything.
func (f *Files) SetOwner(name string, o Owner) error {
	if err := f.CheckParents(name); err != nil {
		return err
	}
	h, err := openNoFollow(name)
	if err != nil {
		return err
	}
	defer h.Close()
	fi, err := h.Stat()
	if err != nil {
		return err
	}
	info := infoOf(fi)
	if !info.IsDir() && (!info.IsRegular() || info.Nlink != 1) {
		return fmt.Errorf("%s is %s with %d names: its owner is left alone", name, info.What(), info.Nlink)
	}
	if info.Owner() == o {
		return nil
	}
	if info.UID != o.UID || info.GID != o.GID {
		if err := h.Chown(int(o.UID), int(o.GID)); err != nil {
			return err
		}
		f.mutated("chown " + name)
	}
	// After chown, which clears setgid.
	if err := unix.Fchmod(int(h.Fd()), o.Mode); err != nil {
		return &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	f.mutated("chmod " + name)
	return h.Sync()
}

func openNoFollow(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// ReadAs opens a file without following a link at its end and demands that it
// is a regular one.
func (f *Files) ReadAs(name string) (*os.File, Info, error) {
	if f.Paper {
		return nil, Info{}, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	h, err := openNoFollow(name)
	if err != nil {
		if errors.Is(err, unix.ELOOP) {
			err = fmt.Errorf("%s is a symbolic link", name)
		}
		return nil, Info{}, err
	}
	fi, err := h.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		h.Close()
		return nil, Info{}, err
	}
	return h, infoOf(fi), nil
}

// Hash returns the SHA-256 of a regular file, in hex.
func (f *Files) Hash(name string) (string, error) {
	h, _, err := f.ReadAs(name)
	if err != nil {
		return "", err
	}
	defer h.Close()
	return Sum(h)
}

// Sum returns the SHA-256 of what is read, in hex.
func Sum(from io.Reader) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, from); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Head returns the first bytes of a regular file, n at most.
func Head(name string, n int) ([]byte, error) {
	h, _, err := new(Files).ReadAs(name)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return io.ReadAll(io.LimitReader(h, int64(n)))
}

// Staged is where Write puts a file before it is renamed into place.
func Staged(name string) string {
	return filepath.Join(filepath.Dir(name), ".carapace-setup."+filepath.Base(name))
}

// Write puts a file in place of whatever file has that name: written beside it
// for root alone, made durable, given its owner, renamed. judge, if not nil, is
// asked about the hash of the copy before it is renamed. A kill at any moment
// leaves the old file or the new one.
func (f *Files) Write(name string, from io.Reader, o Owner, judge func(staged, sum string) error) (sum string, err error) {
	if err := f.CheckParents(name); err != nil {
		return "", err
	}
	staged := Staged(name)
	if err := os.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	h, err := os.OpenFile(staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		h.Close()
		if err != nil {
			os.Remove(staged)
		}
	}()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(h, hash), from); err != nil {
		return "", err
	}
	sum = hex.EncodeToString(hash.Sum(nil))
	f.mutated("stage " + name)
	if judge != nil {
		if err := judge(staged, sum); err != nil {
			return "", err
		}
	}
	if err := h.Chown(int(o.UID), int(o.GID)); err != nil {
		return "", err
	}
	if err := unix.Fchmod(int(h.Fd()), o.Mode); err != nil {
		return "", &fs.PathError{Op: "chmod", Path: staged, Err: err}
	}
	if err := h.Sync(); err != nil {
		return "", err
	}
	if err := h.Close(); err != nil {
		return "", err
	}
	if err := os.Rename(staged, name); err != nil {
		return "", err
	}
	f.mutated("rename " + name)
	return sum, f.syncDir(filepath.Dir(name))
}

// Link gives the file target a second name, in place of whatever file has it.
func (f *Files) Link(target, name string) error {
	if err := f.CheckParents(name); err != nil {
		return err
	}
	staged := Staged(name)
	if err := os.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(target, staged); err != nil {
		return err
	}
	f.mutated("link " + staged)
	if err := os.Rename(staged, name); err != nil {
		os.Remove(staged)
		return err
	}
	// Renaming one name of a file onto another one of the same does nothing.
	if err := os.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.mutated("rename " + name)
	return f.syncDir(filepath.Dir(name))
}

// Remove removes a file, and what a killed Write left beside it. None is no
// error.
func (f *Files) Remove(name string) error {
	for _, n := range []string{Staged(name), name} {
		err := os.Remove(n)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			continue
		case err != nil:
			return err
		}
		f.mutated("remove " + n)
	}
	return f.syncDir(filepath.Dir(name))
}

func (f *Files) mutated(what string) {
	if f.Mutated != nil {
		f.Mutated(what)
	}
}

func (f *Files) syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
