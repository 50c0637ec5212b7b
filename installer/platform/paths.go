package platform

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// DefaultPrefix is where the programs go unless a person says otherwise.
const DefaultPrefix = "/usr/local/carapace"

// Paths is every place of interface §2 on one system. Everything that names a
// path takes it from here.
type Paths struct {
	OS     string
	Prefix string

	Bin     string // programs and shims
	Libexec string // daemon, relay
	Tools   string // the vault: Tools/<tool>/<tool>
	Share   string
	Facts   string // share/install.json

	Config     string // folder
	ConfigFile string
	Secrets    string
	State      string // audit, dead letters, cursors
	Home       string // of the service user; what the tools keep
	Run        string // socket folder
	Socket     string
	Admin      string
	Helper     string
	Spool      string // parent of the clients' folders
	Receipt    string // folder
	ReceiptAt  string // file
	Units      string // service definitions
	PathHint   string // what puts Bin into PATH
	Logs       string // empty: the system's journal
}

var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9][A-Za-z0-9._+-]*){2,}$`)

// NewPaths returns the places for a system ("linux", "macos") and a prefix.
// root is put before every place but the prefix; it is empty outside tests.
//
// A prefix must be an absolute path of at least two plain names: it is written
// into units and shell files, and /usr is nobody's to own.
func NewPaths(system, prefix, root string) (Paths, error) {
	if prefix == "" {
		prefix = root + DefaultPrefix
	}
	if path.Clean(prefix) != prefix || !plainPath.MatchString(prefix) {
		return Paths{}, fmt.Errorf("prefix %q: want an absolute path of two or more plain names, such as /opt/carapace", prefix)
	}
	p := Paths{
		OS:     system,
		Prefix: prefix,

		Bin:     prefix + "/bin",
		Libexec: prefix + "/libexec",
		Tools:   prefix + "/tools",
		Share:   prefix + "/share",
		Facts:   prefix + "/share/install.json",

		Spool: root + "/var/spool/carapace",
	}
	switch system {
	case Linux:
		p.Config = root + "/etc/carapace"
		p.State = root + "/var/lib/carapace"
		p.Home = root + "/var/lib/carapace-home"
		p.Run = root + "/run/carapace"
		p.Receipt = root + "/var/lib/carapace-setup"
		p.Units = root + "/etc/systemd/system"
		p.PathHint = root + "/etc/profile.d/carapace.sh"
	case MacOS:
		p.Config = root + "/Library/Application Support/Carapace"
		p.State = root + "/var/db/carapace"
		p.Home = root + "/Users/carapace"
		p.Run = root + "/var/run/carapace"
		p.Receipt = root + "/var/db/carapace-setup"
		p.Units = root + "/Library/LaunchDaemons"
		p.PathHint = root + "/etc/paths.d/carapace"
		p.Logs = root + "/Library/Logs/Carapace"
	default:
		return Paths{}, fmt.Errorf("system %q: want linux or macos", system)
	}
	p.ConfigFile = p.Config + "/config.yaml"
	p.Secrets = p.Config + "/secrets"
	p.Socket = p.Run + "/gateway.sock"
	p.Admin = p.Run + "/admin.sock"
	p.Helper = p.Run + "/helper.sock"
	p.ReceiptAt = p.Receipt + "/receipt.json"
	// sun_path holds 104 bytes on macOS, its end included.
	if len(p.Socket) > 103 {
		return Paths{}, fmt.Errorf("socket path %s is longer than the 103 bytes a system allows", p.Socket)
	}
	return p, nil
}

// Program is where one of our programs is installed.
func (p Paths) Program(name string) string {
	if name == "carapaced" || name == "carapace-relay" {
		return p.Libexec + "/" + name
	}
	return p.Bin + "/" + name
}

// Tool is where an imported tool is kept.
func (p Paths) Tool(name string) string { return p.Tools + "/" + name + "/" + name }

// SpoolOf is the folder of one client's inbound files.
func (p Paths) SpoolOf(client string) string { return p.Spool + "/" + client }

// Unit is where one service definition is kept.
func (p Paths) Unit(name string) string { return p.Units + "/" + name }

// Under reports whether name is dir or below it.
func Under(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
