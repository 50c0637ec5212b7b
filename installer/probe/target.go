package probe

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// The systems a Target can be of.
const (
	Linux = "linux"
	MacOS = "macos"
)

// Target is the installation to be verified, and the client to verify it for.
// The installer fills it in from the platform, the receipt and install.json;
// nothing in it may come from the client.
type Target struct {
	OS     string // Linux or MacOS
	Prefix string
	Facts  wire.InstallFacts // share/install.json

	Client               string
	ClientUID, ClientGID uint32
	ClientGroups         []uint32 // every supplementary group of the client, the client group among them
	ServiceUser          string
	ClientGroup          string            // empty: carapace-clients
	ClientGroupGID       uint32            // 0: looked up by name
	Accounts             platform.Accounts // nil: those of the running system
	AcceptAdminClient    bool              // the owner accepted a client who can become root (interface §3): warn in place of fail
	Paths                Paths
	SelfExe              string // the installed carapace-setup, run as the children
	StartedByHand        bool   // no service manager: a person starts the daemon
	Root                 bool   // we are root
}

// Paths is where the installation keeps what. All are absolute; an empty one
// makes the checks that need it unknown.
type Paths struct {
	Home      string // of the service user
	State     string // folder
	Config    string // file
	Secrets   string // folder
	Audit     string // folder, below State
	RunDir    string // folder of the sockets
	Receipt   string // file; root's
	Libexec   string // folder
	Bin       string // folder
	Tools     string // folder
	SpoolRoot string // folder of the clients' spools
	Units     []string
}

// DefaultClientGroup is the client group's name unless the answers said
// otherwise (interface §2).
const DefaultClientGroup = "carapace-clients"

func (t *Target) clientGroup() string {
	if t.ClientGroup == "" {
		return DefaultClientGroup
	}
	return t.ClientGroup
}

// ident is somebody a child runs as: exactly these ids, nothing inherited.
type ident struct {
	name   string
	uid    uint32
	gid    uint32
	groups []uint32
}

func (i ident) String() string { return fmt.Sprintf("%s (uid %d)", i.name, i.uid) }

func (t *Target) client() ident {
	return ident{t.Client, t.ClientUID, t.ClientGID, slices.Clone(t.ClientGroups)}
}

// stranger is a user without any group of ours: nobody, by the number it has
// on the system that we run on.
func stranger() ident {
	id := uint32(65534)
	if runtime.GOOS == "darwin" {
		id = 1<<32 - 2
	}
	return ident{"nobody", id, id, nil}
}
