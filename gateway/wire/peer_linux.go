package wire

import "golang.org/x/sys/unix"

func peerOf(fd int) (Identity, error) {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Identity{}, err
	}
	return Identity{UID: u.Uid, GID: u.Gid, PID: u.Pid}, nil
}

// recvFlags let no descriptor that is passed survive into a child, in the
// moment before it is closed.
const recvFlags = unix.MSG_CMSG_CLOEXEC
