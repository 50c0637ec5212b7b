package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// lock is the big red switch. It is a file in the state folder, so that it
// holds across restarts and kills; a file that cannot be read means locked.
type lock struct {
	path string

	mu     sync.Mutex
	locked bool
	reason string
}

func openLock(path string) (*lock, error) {
	l := &lock{path: path}
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		l.locked, l.reason = true, strings.TrimSpace(string(data))
	case errors.Is(err, fs.ErrNotExist):
	default:
		l.locked, l.reason = true, "the lock file cannot be read"
	}
	return l, nil
}

// Locked reports the state and the reason that a person gave.
func (l *lock) Locked() (bool, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.locked, l.reason
}

// Set locks at once and then makes it last. Locking takes effect even when the
// disk refuses; the error says that it will not survive a restart.
func (l *lock) Set(reason string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.locked, l.reason = true, reason
	if err := writeDurably(l.path, []byte(reason+"\n")); err != nil {
		return fmt.Errorf("locked, but not across a restart: %w", err)
	}
	return nil
}

// Clear unlocks: on the disk first, because a lock that a restart brings back
// is better than one that a restart loses.
func (l *lock) Clear() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unlock: %w", err)
	}
	if err := syncDir(filepath.Dir(l.path)); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	l.locked, l.reason = false, ""
	return nil
}

// writeDurably puts a file in place whole or not at all.
func writeDurably(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
