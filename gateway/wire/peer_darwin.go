package wire

import (
	"errors"

	"golang.org/x/sys/unix"
)

func peerOf(fd int) (Identity, error) {
	x, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return Identity{}, err
	}
	if x.Version != 0 { // XUCRED_VERSION; another one would have other fields
		return Identity{}, errors.New("unknown version of the peer's credentials")
	}
	if x.Ngroups < 1 {
		return Identity{}, errors.New("the peer's credentials name no group")
	}
	pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	if err != nil {
		return Identity{}, err
	}
	return Identity{UID: x.Uid, GID: x.Groups[0], PID: int32(pid)}, nil
}

// recvFlags: macOS cannot mark a passed descriptor on arrival. It is closed at
// once, and the daemon's children are started with a list of descriptors.
const recvFlags = 0
