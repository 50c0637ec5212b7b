package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// file is what the log asks of a file. It is a seam: tests stand between the
// log and the disk here, to count, to fail and to cut the power.
type file interface {
	ReadAt(b []byte, off int64) (int, error)
	WriteAt(b []byte, off int64) (int, error)
	Truncate(size int64) error
	Datasync() error // what was written, and the size, is on the disk
	Sync() error     // and so is everything else about the file
	Size() (int64, error)
	Close() error
}

// seam wraps a file as it is opened; nil leaves it as it is.
type seam func(name string, f file) file

// disk is the real file.
type disk struct{ *os.File }

func (d disk) Datasync() error { return datasync(d.File) }

func (d disk) Size() (int64, error) {
	st, err := d.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// folder is the log's folder: nobody else's, and no way out of it.
type folder struct {
	path string
	root *os.Root
	wrap seam
}

// openFolder opens dir and checks whose it is. With create it is made when
// it is not there, and closed to others when it is open to them.
func openFolder(dir string, create bool, wrap seam) (*folder, error) {
	dir = filepath.Clean(dir) // "link/" would be followed
	if create {
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			err = syncDir(filepath.Dir(dir))
		} else if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("make audit folder: %w", err)
		}
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("open audit folder: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("open audit folder %s: not a folder (or a link to one)", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open audit folder: %w", err)
	}
	d := &folder{path: dir, root: root, wrap: wrap}
	now, err := root.Stat(".")
	if err == nil && !os.SameFile(st, now) {
		err = fmt.Errorf("%s was replaced while it was opened", dir)
	}
	if err == nil && create {
		if err = ours(now, dir); err == nil && now.Mode().Perm()&0o077 != 0 {
			err = root.Chmod(".", 0o700)
		}
	}
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("open audit folder: %w", err)
	}
	return d, nil
}

// ours refuses what belongs to another user.
func ours(st fs.FileInfo, path string) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner cannot be read", path)
	}
	if int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, not to uid %d who opens it", path, sys.Uid, os.Geteuid())
	}
	return nil
}

// open opens a plain file of the folder: no link, no second name, no pipe. The
// error of a file that is not there wraps fs.ErrNotExist.
func (d *folder) open(name string, flag int) (*os.File, error) {
	path := filepath.Join(d.path, name)
	before, err := d.root.Lstat(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0 {
			f, err := d.root.OpenFile(name, flag|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
			if err != nil {
				return nil, fmt.Errorf("make %s: %w", path, err)
			}
			return f, nil
		}
		return nil, err
	}
	if err := plainFile(before, path, flag&(os.O_RDWR|os.O_WRONLY) != 0); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, flag&^os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s was replaced while it was opened", path)
	}
	if err == nil && flag&(os.O_RDWR|os.O_WRONLY) != 0 && after.Mode().Perm() != 0o600 {
		err = f.Chmod(0o600)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// plainFile refuses links and anything that is no plain file; for writing,
// also what belongs to somebody else or has a second name.
func plainFile(st fs.FileInfo, path string, write bool) error {
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a plain file", path)
	}
	if !write {
		return nil
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink != 1 {
		return fmt.Errorf("%s has %d names", path, sys.Nlink)
	}
	return ours(st, path)
}

// openLog is open for a file of the log, behind the seam.
func (d *folder) openLog(name string, flag int) (file, error) {
	f, err := d.open(name, flag)
	if err != nil {
		return nil, err
	}
	if d.wrap == nil {
		return disk{f}, nil
	}
	return d.wrap(name, disk{f}), nil
}

// read returns the whole of a small file. One that is opened for writing too
// must be ours, and is closed to others.
func (d *folder) read(name string, flag int, most int64) ([]byte, error) {
	f, err := d.open(name, flag)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := disk{f}.Size()
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, fmt.Errorf("%s: %d bytes, at most %d were expected", f.Name(), size, most)
	}
	return readAll(disk{f}, size)
}

// readAll reads the first size bytes of f.
func readAll(f file, size int64) ([]byte, error) {
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if int64(n) == size {
		return b, nil
	}
	return b[:n], err
}

// replace writes a file so that it is there whole or not at all.
func (d *folder) replace(name string, data []byte) error {
	tmp := name + ".new"
	if err := d.root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.open(tmp, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = d.root.Rename(tmp, name)
	}
	if err == nil {
		err = d.sync()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(d.path, name), err)
	}
	return nil
}

// sync makes the names in the folder durable.
func (d *folder) sync() error { return syncDir(d.path) }

func (d *folder) close() error { return d.root.Close() }

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lock takes the folder's lock, shared or for this process alone, without
// waiting. The lock goes with the file.
func lock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}
