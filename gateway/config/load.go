package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Load reads the configuration at path, which must be absolute. It refuses one
// that somebody else than root could have written or put there: the file must
// be regular, no link, root's, writable by root alone, and every folder above
// it must be such too (a sticky one like /tmp will do, since what root owns in
// it nobody else can move).
func Load(path string) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

func read(path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%s: the path must be absolute", path)
	}
	path = filepath.Clean(path)
	// Non-blocking, because opening a pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: it is a symbolic link; put the file itself there", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: it is not a regular file", path)
	}
	if err := rootsAlone(path, info); err != nil {
		return nil, err
	}
	if err := checkParents(filepath.Dir(path)); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: it is larger than 1 MiB", path)
	}
	return data, nil
}

// checkParents checks every folder on the way to a file, both as the path
// names it and as it is once links are resolved (/var on macOS is a link).
func checkParents(dir string) error {
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for _, start := range []string{dir, resolved} {
		for d := start; ; d = filepath.Dir(d) {
			info, err := os.Lstat(d)
			if err != nil {
				return err
			}
			if err := rootsAlone(d, info); err != nil {
				return err
			}
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	return nil
}

// rootsAlone says why somebody else than root could change what is at path.
func rootsAlone(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner is not known", path)
	}
	if stat.Uid != 0 {
		return fmt.Errorf("%s: it belongs to uid %d; it must belong to root: chown root %s", path, stat.Uid, quoted(path))
	}
	// The permissions of a link mean nothing.
	if info.Mode()&fs.ModeSymlink != 0 || info.IsDir() && info.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s: others than root can write it (mode %04o): chmod go-w %s", path, info.Mode().Perm(), quoted(path))
	}
	return nil
}

// quoted returns a path as a shell takes it for one word.
func quoted(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool { return !strings.ContainsRune("/._-+", r) && !letterOrDigit(r) }) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

func letterOrDigit(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// CheckEntry says what is wrong with one entry of an allow list, for a question
// that a person is just answering. It knows no region, as the configuration of
// a fresh install has none.
func CheckEntry(channel, text string) error {
	_, err := policy.ParsePattern(channel, text, "")
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	return nil
}
