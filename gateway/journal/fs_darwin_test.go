package journal

import (
	"testing"

	"golang.org/x/sys/unix"
)

// fileSystem names the file system of path.
func fileSystem(t testing.TB, path string) string {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(st.Fstypename[:])
}
