package adapter

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// UntrustedError says that a tool is there but must not be run. Why names no
// path and may be shown in a status.
type UntrustedError struct {
	Path string
	Why  string
}

func (e *UntrustedError) Error() string { return fmt.Sprintf("tool %s: %s", e.Path, e.Why) }

// CheckTool reports whether the program at path can be trusted: path and every
// folder above it up to the root is no link, belongs to root, and cannot be
// written by group or others; the program is a regular file, executable, with
// neither set-user-ID nor set-group-ID. A missing tool is an error that
// wraps fs.ErrNotExist; one that is not to be trusted is an *UntrustedError.
//
// With trust, those uids may be owners too, and folders of root's that
// everybody may write but where only owners may remove (/tmp) are accepted.
//
// Because only root can change what passed, there is no race between this
// check and the start.
func CheckTool(path string, trust []uint32) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return &UntrustedError{path, "the path is not absolute and in its shortest form"}
	}
	if path == "/" {
		return &UntrustedError{path, "it is not a regular file"}
	}
	// From the root down: a name below a folder that somebody else controls
	// proves nothing.
	at := "/"
	if err := checkFolder(path, at, trust); err != nil {
		return err
	}
	names := strings.Split(path[1:], "/")
	for _, name := range names[:len(names)-1] {
		at = filepath.Join(at, name)
		if err := checkFolder(path, at, trust); err != nil {
			return err
		}
	}
	info, uid, err := lstat(path)
	if err != nil {
		return fmt.Errorf("tool: %w", err)
	}
	mode := info.Mode()
	switch {
	case mode&fs.ModeSymlink != 0:
		return &UntrustedError{path, "it is a link"}
	case !mode.IsRegular():
		return &UntrustedError{path, "it is not a regular file"}
	case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return &UntrustedError{path, "it has a set-user-ID or set-group-ID bit"}
	case !trusted(uid, trust):
		return &UntrustedError{path, "it does not belong to root"}
	case mode.Perm()&0o022 != 0:
		return &UntrustedError{path, "others than its owner can write it"}
	case mode.Perm()&0o111 == 0:
		return &UntrustedError{path, "it is not executable"}
	}
	return nil
}

func checkFolder(tool, folder string, trust []uint32) error {
	info, uid, err := lstat(folder)
	if err != nil {
		return fmt.Errorf("tool: %w", err)
	}
	mode := info.Mode()
	shared := mode&fs.ModeSticky != 0 && uid == 0 && len(trust) > 0
	switch {
	case mode&fs.ModeSymlink != 0:
		return &UntrustedError{tool, "a folder above it is a link"}
	case !mode.IsDir():
		return &UntrustedError{tool, "something above it is not a folder"}
	case !trusted(uid, trust):
		return &UntrustedError{tool, "a folder above it does not belong to root"}
	case mode.Perm()&0o022 != 0 && !shared:
		return &UntrustedError{tool, "others than the owner can write a folder above it"}
	}
	return nil
}

func trusted(uid uint32, trust []uint32) bool { return uid == 0 || slices.Contains(trust, uid) }

func lstat(path string) (fs.FileInfo, uint32, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, 0, err
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, 0, fmt.Errorf("owner of %s: not known on this system", path)
	}
	return info, sys.Uid, nil
}

// vetter checks a tool before each start, and hashes it again only when the
// file changed in a way that its inode shows.
type vetter struct {
	mu   sync.Mutex
	good fs.FileInfo // as it was when its hash last matched
}

func (v *vetter) vet(path, pin string, trust []uint32) error {
	if err := CheckTool(path, trust); err != nil {
		return err
	}
	if pin == "" {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("tool: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("tool: %w", err)
	}
	if v.good != nil && os.SameFile(v.good, info) && v.good.Size() == info.Size() && v.good.ModTime().Equal(info.ModTime()) && changed(v.good) == changed(info) {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("tool: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != strings.ToLower(pin) {
		return &UntrustedError{path, "its content is not what was pinned"}
	}
	v.good = info
	return nil
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// blame puts an error of a start into words for a status: short, and without a
// path.
func blame(err error) string {
	var untrusted *UntrustedError
	var errno syscall.Errno
	switch {
	case errors.As(err, &untrusted):
		return "the tool is not trusted: " + untrusted.Why
	case errors.Is(err, errFolder):
		return errFolder.Error()
	case errors.Is(err, fs.ErrNotExist):
		return "the tool is not installed"
	case errors.As(err, &errno):
		return "the tool cannot be started: " + errno.Error()
	}
	return "the tool cannot be started"
}
