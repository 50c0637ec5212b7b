package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync is fdatasync: the data and the size, which is what an append needs,
// and not the times.
func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}
