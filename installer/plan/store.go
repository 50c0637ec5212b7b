package plan

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxReceipt bounds what is read: a receipt is some tens of kilobytes.
const maxReceipt = 16 << 20

// Store keeps the receipt.
type Store interface {
	// Load returns nil and no error when there is none.
	Load() (*Receipt, error)
	// Save returns when the receipt is durable. A kill at any moment leaves
	// the old one or the new one.
	Save(*Receipt) error
	// Remove forgets the receipt; none is no error.
	Remove() error
}

// File is a Store in one file of a folder that is root's alone.
type File struct {
	Path string
	// Mutated is called after each write; tests die in it. It may be nil.
	Mutated func(what string)
}

var _ Store = (*File)(nil)

// Load implements Store. It refuses a receipt that is a link, or that is not
// the running user's (root's), or that others may write.
func (f *File) Load() (*Receipt, error) {
	h, err := os.OpenFile(f.Path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the receipt: %w", err)
	}
	defer h.Close()
	info, err := h.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the receipt: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || !mine(info) {
		return nil, fmt.Errorf("%w: %s is not a file that root alone can write", ErrReceipt, f.Path)
	}
	data, err := io.ReadAll(io.LimitReader(h, maxReceipt+1))
	if err != nil {
		return nil, fmt.Errorf("read the receipt: %w", err)
	}
	if len(data) > maxReceipt {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrReceipt, maxReceipt)
	}
	r, err := ParseReceipt(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return r, nil
}

// Save implements Store.
func (f *File) Save(r *Receipt) error {
	data, err := MarshalReceipt(r)
	if err != nil {
		return err
	}
	next := f.Path + ".new"
	// Left by a kill, and nobody but root can have put it there.
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the receipt: %w", err)
	}
	h, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("write the receipt: %w", err)
	}
	_, err = h.Write(data)
	if err == nil {
		err = h.Chmod(0o600) // whatever the umask
	}
	if err == nil {
		err = h.Sync()
	}
	if cerr := h.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		f.mutated("write " + next)
		err = os.Rename(next, f.Path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(f.Path))
	}
	if err != nil {
		os.Remove(next)
		return fmt.Errorf("write the receipt: %w", err)
	}
	f.mutated("rename " + f.Path)
	return nil
}

// Sweep removes what a kill left of a Save that had not yet replaced the
// receipt. It is for whoever holds the lock.
func (f *File) Sweep() error {
	if err := os.Remove(f.Path + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tidy up the receipt: %w", err)
	}
	return nil
}

// Remove implements Store.
func (f *File) Remove() error {
	for _, p := range []string{f.Path + ".new", f.Path} {
		if err := os.Remove(p); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return fmt.Errorf("remove the receipt: %w", err)
		}
		f.mutated("remove " + p)
	}
	return syncDir(filepath.Dir(f.Path))
}

func (f *File) mutated(what string) {
	if f.Mutated != nil {
		f.Mutated(what)
	}
}

func mine(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Lock makes the folder of the receipt, root's alone, and holds a lock on it
// until unlock is called or the process ends. A second run gets ErrBusy at
// once. unlock removes the folder when nothing is left in it, so that a
// machine where all was undone is as it was before.
func Lock(dir string) (unlock func(), err error) {
	for range 8 {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make the folder of the receipt: %w", err)
		}
		h, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the run that held it removed it just now
		}
		if err != nil {
			return nil, fmt.Errorf("lock the receipt: %w", err)
		}
		if err := syscall.Flock(int(h.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			h.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, WithHint(ErrBusy, "wait for it, or see who it is: sudo -k fuser -v "+dir)
			}
			return nil, fmt.Errorf("lock the receipt: %w", err)
		}
		held, err := h.Stat()
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("lock the receipt: %w", err)
		}
		if now, err := os.Lstat(dir); err != nil || !os.SameFile(held, now) {
			h.Close() // a lock on a folder that is no longer the one there
			continue
		}
		if !mine(held) || held.Mode().Perm()&0o022 != 0 {
			h.Close()
			return nil, fmt.Errorf("%w: %s is not root's alone to write", ErrReceipt, dir)
		}
		if err := h.Chmod(0o700); err != nil {
			h.Close()
			return nil, fmt.Errorf("lock the receipt: %w", err)
		}
		return func() {
			os.Remove(dir) // fails, as it should, while a receipt is in it
			h.Close()
		}, nil
	}
	return nil, ErrBusy
}
