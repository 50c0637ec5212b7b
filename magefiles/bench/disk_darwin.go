package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func fileSystem(dir string) (fsInfo, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fsInfo{}, fmt.Errorf("find the file system of %s: %w", dir, err)
	}
	name := unix.ByteSliceToString(st.Fstypename[:])
	return fsInfo{name: name, memory: name == "tmpfs"}, nil
}

// syncData is os.File.Sync, which is F_FULLFSYNC on macOS: nothing less
// reaches the disk there.
func syncData(f *os.File) error { return f.Sync() }
