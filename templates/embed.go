// Package templates holds the files that the installer writes for the
// operating system: systemd units, launchd property lists and the shell
// snippet that puts the shims into PATH. What an administrator will read in
// /etc is read here in the same form, with a handful of values left open.
//
// It promises that a value can never become syntax. Every value is checked
// against a narrow alphabet before anything is rendered: no quote, backslash,
// percent sign, dollar, colon, control character or letter beyond ASCII gets
// in, so that neither a unit specifier nor a second directive nor an XML
// element can be smuggled in by a path. Spaces are allowed in paths, because
// macOS has them, and are quoted.
//
// It refuses what it does not know: an unknown name is an error, and so is a
// value that the named file does not need but that is malformed.
package templates

import (
	"bytes"
	"embed"
	"encoding/xml"
	"fmt"
	"path"
	"strings"
	"text/template"
)

// The names that Systemd and Launchd know. They are the file names under
// /etc/systemd/system and /Library/LaunchDaemons too (interface §2).
const (
	UnitGateway  = "carapace.service"
	UnitRundir   = "carapace-rundir.service"
	PlistGateway = "ai.carapace.gateway.plist"
	PlistRundir  = "ai.carapace.rundir.plist"
)

//go:embed systemd/*.service launchd/*.plist profile.d/carapace.sh
var files embed.FS

// Values is what the files leave open. Paths are absolute, slash-separated and
// clean; names are portable user and group names. The installer takes all of
// them from its settings and the platform, never from an environment.
type Values struct {
	Prefix       string // programs live in its bin and libexec
	ServiceUser  string // whom the gateway runs as
	ServiceGroup string // that account's own primary group
	ClientGroup  string // who may reach the socket
	Config       string // file
	State        string // folder
	Run          string // folder of the sockets
	Spool        string // folder of inbound files
	Logs         string // folder; launchd only, and required there only
	Home         string // of the service user, where its tools keep what is theirs; may be empty
	// Network says that a tool or the façade needs more than Unix sockets.
	// Without it the gateway lives in a network namespace of its own.
	Network bool
}

// Systemd renders one of the units UnitGateway and UnitRundir.
func Systemd(name string, v Values) ([]byte, error) {
	if name != UnitGateway && name != UnitRundir {
		return nil, fmt.Errorf("render unit %q: no such unit", name)
	}
	return render("systemd/"+name, v, false)
}

// Launchd renders one of the property lists PlistGateway and PlistRundir.
func Launchd(name string, v Values) ([]byte, error) {
	if name != PlistGateway && name != PlistRundir {
		return nil, fmt.Errorf("render property list %q: no such job", name)
	}
	return render("launchd/"+name, v, true)
}

// Profile renders /etc/profile.d/carapace.sh. It needs only Prefix.
func Profile(v Values) ([]byte, error) {
	if err := checkPath("prefix", v.Prefix); err != nil {
		return nil, err
	}
	return execute("profile.d/carapace.sh", v)
}

func render(file string, v Values, logs bool) ([]byte, error) {
	if err := v.check(logs); err != nil {
		return nil, fmt.Errorf("render %s: %w", path.Base(file), err)
	}
	return execute(file, v)
}

func execute(file string, v Values) ([]byte, error) {
	text, err := files.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", path.Base(file), err)
	}
	t, err := template.New(path.Base(file)).Option("missingkey=error").Funcs(template.FuncMap{
		"path":   unitPath,
		"parent": func(p string) string { return unitPath(path.Dir(p)) },
		"xml":    escapeXML,
	}).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", path.Base(file), err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("render %s: %w", path.Base(file), err)
	}
	return out.Bytes(), nil
}

// unitPath joins and quotes a path for a unit file. Nothing in it needs an
// escape, because check has refused whatever would.
func unitPath(parts ...string) string {
	p := path.Join(parts...)
	if strings.Contains(p, " ") {
		return `"` + p + `"`
	}
	return p
}

func escapeXML(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

func (v Values) check(logs bool) error {
	for _, f := range []struct{ what, value string }{
		{"prefix", v.Prefix}, {"config", v.Config}, {"state", v.State}, {"run", v.Run}, {"spool", v.Spool},
	} {
		if err := checkPath(f.what, f.value); err != nil {
			return err
		}
	}
	if logs || v.Logs != "" {
		if err := checkPath("logs", v.Logs); err != nil {
			return err
		}
	}
	if v.Home != "" {
		if err := checkPath("home", v.Home); err != nil {
			return err
		}
	}
	for _, f := range []struct{ what, value string }{
		{"service user", v.ServiceUser}, {"service group", v.ServiceGroup}, {"client group", v.ClientGroup},
	} {
		if err := checkName(f.what, f.value); err != nil {
			return err
		}
	}
	return nil
}

// maxPath bounds a path in bytes; PATH_MAX of macOS is 1024, and a unit line
// with four of them must stay readable.
const maxPath = 512

func checkPath(what, p string) error {
	if p == "" || p[0] != '/' || p == "/" || len(p) > maxPath || path.Clean(p) != p {
		return fmt.Errorf("%s %q: not a clean absolute path below /", what, p)
	}
	for _, r := range p {
		if !letterOrDigit(r) && !strings.ContainsRune("/._-+,@= ", r) {
			return fmt.Errorf("%s %q: the character %q has no place in a path of ours", what, p, r)
		}
	}
	for seg := range strings.SplitSeq(p[1:], "/") {
		if strings.TrimSpace(seg) != seg {
			return fmt.Errorf("%s %q: a folder name begins or ends with a space", what, p)
		}
	}
	return nil
}

// maxName is the longest user name that useradd and utmp agree on.
const maxName = 32

func checkName(what, n string) error {
	if n == "" || len(n) > maxName {
		return fmt.Errorf("%s %q: not a user or group name", what, n)
	}
	for i, r := range n {
		ok := r >= 'a' && r <= 'z' || r == '_' || i > 0 && (r >= '0' && r <= '9' || r == '-')
		if !ok {
			return fmt.Errorf("%s %q: not a user or group name", what, n)
		}
	}
	return nil
}

func letterOrDigit(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
