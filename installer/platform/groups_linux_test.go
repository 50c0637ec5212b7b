package platform

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestGroupsWithSpaces is about the groups of a directory service, which have
// names like "domain users". The test runs itself again where it can put
// another file in place of /etc/group, for itself alone.
func TestGroupsWithSpaces(t *testing.T) {
	const file = "CARAPACE_TEST_GROUP_FILE"
	if name := os.Getenv(file); name != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
			t.Skipf("needs mount(2): %v", err)
		}
		if err := syscall.Mount(name, "/etc/group", "", syscall.MS_BIND, ""); err != nil {
			t.Skipf("needs mount(2): %v", err)
		}
		got, err := NewLinux(Paths{}, nil).GroupsOf(context.Background(), "nobody")
		if err != nil || !slices.Contains(got, "domain users") || slices.Contains(got, "users") {
			t.Errorf("groups %q, error %v", got, err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a file")
	}
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "group")
	if err := os.WriteFile(name, append(groups, "domain users:x:424242:nobody\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestGroupsWithSpaces$", "-test.v")
	cmd.Env = append(os.Environ(), file+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if strings.Contains(string(out), "--- SKIP") {
		t.Skip("needs mount(2) in a namespace of its own, which is not to be had here")
	}
}
