package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// undumpable keeps every process of the same uid but root from attaching to
// the daemon and gives its files in /proc to root.
func undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	return nil
}
