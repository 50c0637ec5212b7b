package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fileSystems are the magic numbers of statfs(2) that one meets.
var fileSystems = map[int64]fsInfo{
	unix.EXT4_SUPER_MAGIC:      {name: "ext4 (or ext2, ext3)"},
	unix.XFS_SUPER_MAGIC:       {name: "xfs"},
	unix.BTRFS_SUPER_MAGIC:     {name: "btrfs"},
	unix.F2FS_SUPER_MAGIC:      {name: "f2fs"},
	unix.OVERLAYFS_SUPER_MAGIC: {name: "overlayfs"},
	unix.NFS_SUPER_MAGIC:       {name: "nfs"},
	0x2fc12fc1:                 {name: "zfs"},
	unix.TMPFS_MAGIC:           {name: "tmpfs", memory: true},
	unix.RAMFS_MAGIC:           {name: "ramfs", memory: true},
}

func fileSystem(dir string) (fsInfo, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fsInfo{}, fmt.Errorf("find the file system of %s: %w", dir, err)
	}
	if fs, ok := fileSystems[int64(st.Type)]; ok {
		return fs, nil
	}
	return fsInfo{name: fmt.Sprintf("a file system of type %#x", st.Type)}, nil
}

func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
