// Package platform is what differs between operating systems: accounts,
// groups, services, the places of things, and who owns them. A step says what
// must hold; a Platform knows how this system is told.
//
// It promises that every command is run by its absolute path, with a clean
// environment, no input, its own process group, a time limit and a bounded
// answer; that every write is read back, because an exit code is no proof; and
// that names and ids are resolved through the system's own look-up (LDAP and
// the like included), never by reading a file that may be only half of it.
//
// It refuses to write below a folder that anybody but root could change, to
// follow a link there, and to guess: an object that is not exactly what was
// asked for is an error that names the difference.
//
// linux.go and macos.go only build command lines for a [Runner], so both
// halves are compiled, vetted and tested everywhere.
package platform

import (
	"context"
	"errors"
	"fmt"
)

// ErrNotFound says that the system knows no such user, group or service.
var ErrNotFound = errors.New("not found")

// ErrTaken says that an id was given to somebody else since it was chosen.
// Nothing was changed.
var ErrTaken = errors.New("the id is taken")

// ErrForeign says that this program only plans for that system.
var ErrForeign = errors.New("this system can be planned for here, not changed")

// The systems.
const (
	Linux = "linux"
	MacOS = "macos"
)

// User is an account as the system's look-up shows it.
type User struct {
	Name  string
	UID   uint32
	GID   uint32 // primary group
	Gecos string
	Home  string
	Shell string
}

// Group is a group as the system's look-up shows it. Members are those named
// in it; users whose primary group it is are not among them.
type Group struct {
	Name    string
	GID     uint32
	Members []string
}

// Marker is the comment field of an account that we made. With the uid in the
// receipt it is the proof that the account is ours (Linux has no GeneratedUID).
const Marker = "Carapace gateway"

// Process is one running program.
type Process struct {
	PID     int
	PPID    int
	UID     uint32 // effective
	Program string // path of what it runs; empty when it cannot be read
	Name    string // short name, at most 15 bytes
	Start   string // start time as the kernel writes it: with PID it names one process
}

// Service is what the service manager says about one unit.
type Service struct {
	Known   bool // a definition is loaded
	Running bool
	Enabled bool // starts at boot
	PID     int
}

// Accounts makes and removes users and groups. Looking up an object that does
// not exist gives ErrNotFound. Every change is read back before it returns.
type Accounts interface {
	User(ctx context.Context, name string) (User, error)
	UserByID(ctx context.Context, uid uint32) (User, error)
	Group(ctx context.Context, name string) (Group, error)
	GroupByID(ctx context.Context, gid uint32) (Group, error)
	// GroupsOf names every group the user is in, the primary one included.
	GroupsOf(ctx context.Context, name string) ([]string, error)
	// Sharers names the users whose primary group this is.
	Sharers(ctx context.Context, gid uint32) ([]string, error)
	// FreeUID and FreeGID choose an id from the system's range that no
	// look-up knows.
	FreeUID(ctx context.Context) (uint32, error)
	FreeGID(ctx context.Context) (uint32, error)
	// Locked reports whether no password lets anybody in as the user.
	Locked(ctx context.Context, name string) (bool, error)
	// Regular reports whether the account is a person's, not a system's.
	Regular(u User) error

	CreateGroup(ctx context.Context, g Group) error
	DeleteGroup(ctx context.Context, name string) error
	CreateUser(ctx context.Context, u User) error // no password, no home folder
	// DeleteUser removes the account alone. On Linux a group of the same name
	// goes with it, unless keepGroup says that it is somebody else's.
	DeleteUser(ctx context.Context, name string, keepGroup bool) error
	AddMember(ctx context.Context, group, user string) error
	RemoveMember(ctx context.Context, group, user string) error
}

// Services controls the service manager.
type Services interface {
	// Manager names the service manager that runs here: "systemd",
	// "launchd"; empty when there is none, as in most containers.
	Manager(ctx context.Context) string
	Service(ctx context.Context, unit string) (Service, error)
	Reload(ctx context.Context) error // read changed definitions
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	Start(ctx context.Context, unit string) error
	Restart(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error // returns when it has stopped
}

// Processes looks at and ends processes.
type Processes interface {
	Of(ctx context.Context, uid uint32) ([]Process, error)
	// Terminate asks exactly that process to end; one that is gone, or whose
	// number now belongs to another, is no error.
	Terminate(ctx context.Context, p Process) error
}

// Platform is one system.
type Platform interface {
	OS() string
	Paths() Paths
	// Paper reports that nothing is read and nothing can be changed: the
	// plan of another system, on paper.
	Paper() bool
	Accounts
	Services
	Processes() Processes
	Files() *Files
}

// notFound names what was looked for.
func notFound(what, name string) error { return fmt.Errorf("%s %s: %w", what, name, ErrNotFound) }
