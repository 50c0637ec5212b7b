package adapter

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCheckTool(t *testing.T) {
	me := []uint32{uint32(os.Getuid())}
	make := func(t *testing.T) (dir, path string) {
		dir = folder(t)
		if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(dir, "bin", "tool")
		script(t, path, "exit 0")
		return dir, path
	}
	chmod := func(t *testing.T, path string, mode os.FileMode) {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name string
		edit func(t *testing.T, dir, path string) string // returns the path to check
		want string                                      // part of the reason; "" when it is fine
	}{
		{"good", func(t *testing.T, _, p string) string { return p }, ""},
		{"read-only", func(t *testing.T, _, p string) string { chmod(t, p, 0o555); return p }, ""},
		{"relative", func(t *testing.T, _, p string) string { return "bin/tool" }, "not absolute"},
		{"roundabout", func(t *testing.T, d, p string) string { return d + "/bin/../bin/tool" }, "shortest"},
		{"trailing slash", func(t *testing.T, d, p string) string { return p + "/" }, "shortest"},
		{"root", func(t *testing.T, _, _ string) string { return "/" }, "regular"},
		{"a folder", func(t *testing.T, d, _ string) string { return d }, "regular"},
		{"a device", func(t *testing.T, _, _ string) string { return "/dev/null" }, "regular"},
		{"not executable", func(t *testing.T, _, p string) string { chmod(t, p, 0o644); return p }, "executable"},
		{"group writes", func(t *testing.T, _, p string) string { chmod(t, p, 0o775); return p }, "can write it"},
		{"others write", func(t *testing.T, _, p string) string { chmod(t, p, 0o757); return p }, "can write it"},
		{"setuid", func(t *testing.T, _, p string) string { chmod(t, p, 0o755|os.ModeSetuid); return p }, "set-user-ID"},
		{"setgid", func(t *testing.T, _, p string) string { chmod(t, p, 0o755|os.ModeSetgid); return p }, "set-user-ID"},
		{"folder open to a group", func(t *testing.T, d, p string) string { chmod(t, d, 0o775); return p }, "write a folder"},
		{"folder open to all", func(t *testing.T, d, p string) string { chmod(t, d+"/bin", 0o777); return p }, "write a folder"},
		{"a link", func(t *testing.T, d, p string) string {
			l := filepath.Join(d, "link")
			if err := os.Symlink(p, l); err != nil {
				t.Fatal(err)
			}
			return l
		}, "a link"},
		{"below a link", func(t *testing.T, d, p string) string {
			l := filepath.Join(d, "link")
			if err := os.Symlink(filepath.Join(d, "bin"), l); err != nil {
				t.Fatal(err)
			}
			return l + "/tool"
		}, "above it is a link"},
		{"below a file", func(t *testing.T, d, p string) string { return p + "/tool" }, "not a folder"},
		{"a pipe", func(t *testing.T, d, p string) string {
			if err := syscall.Mkfifo(d+"/pipe", 0o755); err != nil {
				t.Fatal(err)
			}
			return d + "/pipe"
		}, "regular"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir, path := make(t)
			err := CheckTool(c.edit(t, dir, path), me)
			var untrusted *UntrustedError
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v", err)
			case c.want != "" && (!errors.As(err, &untrusted) || !strings.Contains(untrusted.Why, c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			case c.want != "" && strings.Contains(blame(err), dir):
				t.Errorf("a status would name a path: %s", blame(err))
			}
		})
	}
	dir, path := make(t)
	if err := CheckTool(path+"x", me); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := CheckTool(dir+"/none/tool", me); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
}

// Production trusts root alone, and no folder that everybody may write.
func TestCheckToolTrustsRootAlone(t *testing.T) {
	var untrusted *UntrustedError
	path := tool(t, "args")
	if err := CheckTool(path, nil); !errors.As(err, &untrusted) {
		t.Errorf("a tool below a shared or a user's folder passed: %v", err)
	}
	for _, p := range []string{"/usr/bin/env", "/usr/bin/id"} {
		if err := CheckTool(p, nil); err != nil && !strings.Contains(err.Error(), "link") {
			t.Errorf("%s: %v", p, err)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: giving a tool to another user")
	}
	mine := []uint32{0}
	if err := CheckTool(path, mine); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 0); err != nil {
		t.Fatal(err)
	}
	if err := CheckTool(path, mine); !errors.As(err, &untrusted) || !strings.Contains(untrusted.Why, "belong to root") {
		t.Errorf("a stranger's tool: %v", err)
	}
	if err := CheckTool(path, []uint32{65534}); err != nil {
		t.Errorf("a trusted owner's tool: %v", err)
	}
	if err := os.Chown(path, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Dir(path), 65534, 0); err != nil {
		t.Fatal(err)
	}
	if err := CheckTool(path, mine); !errors.As(err, &untrusted) || !strings.Contains(untrusted.Why, "folder above") {
		t.Errorf("in a stranger's folder: %v", err)
	}
}
