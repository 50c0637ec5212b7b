package wire

import (
	"fmt"
	"syscall"
)

// Identity is who is at the other end of a socket, as the kernel recorded it
// when the connection was made: for a server the process that connected, for
// a client the process that listened.
type Identity struct {
	UID uint32
	GID uint32 // the effective group; supplementary groups are not told
	PID int32  // for records only: the process may be gone and the number used again
}

// PeerOf asks the kernel who is at the other end of c (SO_PEERCRED on Linux,
// LOCAL_PEERCRED and LOCAL_PEERPID on macOS): a *net.UnixConn, or any other
// connected Unix socket.
func PeerOf(c syscall.Conn) (Identity, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Identity{}, fmt.Errorf("peer identity: %w", err)
	}
	var id Identity
	var inner error
	if err := raw.Control(func(fd uintptr) { id, inner = peerOf(int(fd)) }); err != nil {
		return Identity{}, fmt.Errorf("peer identity: %w", err)
	}
	if inner != nil {
		return Identity{}, fmt.Errorf("peer identity: %w", inner)
	}
	return id, nil
}
