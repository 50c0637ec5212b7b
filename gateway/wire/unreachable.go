package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"golang.org/x/sys/unix"
)

// Why a gateway cannot be reached, besides what the system says.
var (
	// ErrWrongServer says that the socket is another user's than the service
	// user's. Nothing was said to it.
	ErrWrongServer = errors.New("the server does not run as the service user")
	// ErrSilent says that the socket took the connection and nobody answered.
	ErrSilent = errors.New("the gateway does not answer")
	// ErrNotInstalled says that the installation facts are missing or cannot
	// be believed.
	ErrNotInstalled = errors.New("no installation of Carapace belongs to this program")
	// ErrClosed says that the connection ended before an answer came. Whether
	// what was asked has happened is not known.
	ErrClosed = errors.New("the gateway closed the connection")
)

// UnreachableError says that the gateway cannot be reached, or stopped being
// reachable before it answered.
type UnreachableError struct {
	Socket string
	Err    error
}

func (e *UnreachableError) Error() string {
	if errors.Is(e.Err, ErrNotInstalled) {
		return e.Err.Error()
	}
	return fmt.Sprintf("the gateway cannot be reached: %v", e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Exit returns 77 when the system refused the way to the socket, else 69.
func (e *UnreachableError) Exit() int {
	if e.forbidden() {
		return ExitNotPermitted
	}
	return ExitUnavailable
}

func (e *UnreachableError) forbidden() bool {
	if errors.Is(e.Err, ErrNotInstalled) { // facts that cannot be read are no facts
		return false
	}
	return errors.Is(e.Err, unix.EACCES) || errors.Is(e.Err, unix.EPERM)
}

// Hint says what a person can do.
func (e *UnreachableError) Hint() string {
	switch {
	case e.forbidden():
		return "this login session may be older than the user's membership in carapace-clients: log out and in again, and see whether `id` names the group"
	case errors.Is(e.Err, ErrNotInstalled):
		return "use the program in the bin folder of the installation; carapace-setup status says what is installed"
	case errors.Is(e.Err, ErrWrongServer):
		return "something else answers at " + e.Socket + "; nothing was sent to it; run: sudo -k carapace-setup verify"
	case errors.Is(e.Err, ErrSilent):
		return "the gateway may be overloaded or stopped; an administrator can run: sudo -k carapacectl status"
	case errors.Is(e.Err, ErrClosed):
		return "whether it happened is not known; an administrator can run: sudo -k carapacectl audit show"
	case errors.Is(e.Err, fs.ErrNotExist), errors.Is(e.Err, unix.ECONNREFUSED):
		return "the gateway is not running; an administrator can run: " + startCommand(runtime.GOOS)
	}
	return "an administrator can run: sudo -k carapace-setup verify"
}

func startCommand(goos string) string {
	if goos == "darwin" {
		return "sudo -k launchctl kickstart system/ai.carapace.gateway"
	}
	return "sudo -k systemctl start carapace"
}
