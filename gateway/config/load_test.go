package config

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const minimal = "version: 1\n"

// rootDir makes a folder that is root's alone, as /etc is. The test's own is
// not always: its parents belong to whoever set TMPDIR.
func rootDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a configuration that is not root's is refused")
	}
	dir := t.TempDir()
	if err := checkParents(dir); err != nil {
		t.Skipf("needs a temporary folder below which root alone can write: %v", err)
	}
	return dir
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	dir := rootDir(t)
	path := filepath.Join(dir, "config.yaml")
	for _, mode := range []fs.FileMode{0o640, 0o600, 0o644, 0o440} {
		os.Remove(path)
		write(t, path, minimal, mode)
		if c, err := Load(path); err != nil || string(c.Raw) != minimal {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	write(t, path, "version: 1\ncolour: red\n", 0o640)
	var fault *Error
	if _, err := Load(path); !errors.As(err, &fault) || fault.File != path || fault.Line != 2 {
		t.Errorf("a file with a fault: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := rootDir(t)
	nobody := 65534
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, mode := range []fs.FileMode{0o660, 0o646, 0o666, 0o602} {
		name := "mode-" + mode.String()
		write(t, path(name), minimal, mode)
		refused(t, path(name), "others than root can write it")
	}
	write(t, path("nobodys"), minimal, 0o600)
	if err := os.Chown(path("nobodys"), nobody, 0); err != nil {
		t.Fatal(err)
	}
	refused(t, path("nobodys"), "belongs to uid 65534")

	write(t, path("good"), minimal, 0o640)
	if err := os.Symlink("good", path("link")); err != nil {
		t.Fatal(err)
	}
	refused(t, path("link"), "symbolic link")
	refused(t, path("absent"), "no such file")
	if err := os.Mkdir(path("folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	refused(t, path("folder"), "not a regular file")
	// Nobody writes into the pipe: opening it must not wait.
	if err := syscall.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, path("pipe"), "not a regular file")
	write(t, path("large"), "# "+strings.Repeat("x", MaxSize), 0o640)
	refused(t, path("large"), "larger than 1 MiB")
	refused(t, "config.yaml", "must be absolute")

	for name, spoil := range map[string]func(string) error{
		"world": func(d string) error { return os.Chmod(d, 0o777) },
		"group": func(d string) error { return os.Chmod(d, 0o775) },
		"owned": func(d string) error { return os.Chown(d, nobody, 0) },
	} {
		parent := path("parent-" + name)
		inner := filepath.Join(parent, "inner")
		if err := os.MkdirAll(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(inner, "config.yaml"), minimal, 0o640)
		if _, err := Load(filepath.Join(inner, "config.yaml")); err != nil {
			t.Fatalf("before %s is spoilt: %v", parent, err)
		}
		if err := spoil(parent); err != nil {
			t.Fatal(err)
		}
		want := "others than root can write it"
		if name == "owned" {
			want = "belongs to uid 65534"
		}
		refused(t, filepath.Join(inner, "config.yaml"), want)
		// A safe link that leads there does not make it safer.
		link := path("link-" + name)
		if err := os.Symlink(inner, link); err != nil {
			t.Fatal(err)
		}
		refused(t, filepath.Join(link, "config.yaml"), want)
	}

	// A link among the parents is no fault by itself: /var is one on macOS.
	if err := os.Symlink(dir, path("self")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Join(path("self"), "good")); err != nil {
		t.Errorf("through a link of root's: %v", err)
	}
	if err := os.Lchown(path("self"), nobody, 0); err != nil {
		t.Fatal(err)
	}
	refused(t, filepath.Join(path("self"), "good"), "belongs to uid 65534")
}

func refused(t *testing.T, path, want string) {
	t.Helper()
	if c, err := Load(path); err == nil || c != nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v; want %q", path, err, want)
	}
}

// Whoever runs this test cannot make the gateway read a file of theirs.
func TestLoadRefusesOwnFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs a user other than root; as root TestLoadRefuses tries it")
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, minimal, 0o600)
	refused(t, path, "it must belong to root")
}

func TestQuoted(t *testing.T) {
	for _, path := range []string{"/etc/carapace/config.yaml", "/Library/Application Support/x", "/it's/$(id)"} {
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+quoted(path)).Output()
		if err != nil || string(out) != path {
			t.Errorf("a shell reads %s as %q, %v", quoted(path), out, err)
		}
	}
}

func TestDefaultPath(t *testing.T) {
	for goos, want := range map[string]string{
		"linux":  "/etc/carapace/config.yaml",
		"darwin": "/Library/Application Support/Carapace/config.yaml", "macos": "/Library/Application Support/Carapace/config.yaml",
	} {
		if got := DefaultPath(goos); got != want {
			t.Errorf("%s: %s", goos, got)
		}
	}
}
