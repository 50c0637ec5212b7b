package adapter

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// seal makes the daemon a process whose children start clean. It runs before
// each start because descriptors that the daemon was itself born with, or that
// a library opened carelessly, would otherwise reach the tool.
func seal() error {
	// Limits are inherited, and no call sets those of a child on every
	// system; the daemon wants none of its memory on disk either.
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("switch off core dumps: %w", err)
	}
	return markAll()
}

// markEach is the slow way of markAll: one call for each open descriptor.
func markEach(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("list open descriptors: %w", err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}
