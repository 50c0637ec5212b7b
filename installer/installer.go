// Package installer says what an installation of Carapace is: settings in, an
// ordered list of steps out, the whole of it readable from top to bottom in
// [Steps]. The engine of package plan runs them, the kinds of package step do
// them, and a platform tells the system.
//
// It promises that the order is one in which every step finds what it needs
// and in which nothing is open for a moment that will be closed later: accounts
// before what they own, folders before what is in them, programs before the
// services that run them, and the sockets' folder before anybody could sit in
// its place.
//
// It refuses to ask (prompt does), to print (carapace-setup does) and to decide
// what a gateway may do: the configuration is written by the gateway's own
// package, from the answers and from nothing else.
package installer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/config"
	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
	"github.com/carapace-gateway/carapace/installer/step"
	"github.com/carapace-gateway/carapace/templates"
)

// Settings is what a person decided. It goes into the receipt, so that a later
// run without answers does what the first one was told.
type Settings struct {
	ServiceUser string              `json:"service_user"`
	ClientGroup string              `json:"client_group"`
	Clients     []string            `json:"clients"`
	Region      string              `json:"region,omitempty"`
	Channels    map[string]Channel  `json:"channels"`
	Outbound    map[string][]string `json:"outbound,omitempty"`
	Inbound     map[string][]string `json:"inbound,omitempty"`
	Tools       map[string]Import   `json:"tools,omitempty"` // imported by hand, by the tool's name
	Start       bool                `json:"start"`
	OpenClaw    bool                `json:"openclaw,omitempty"`
	Adopt       bool                `json:"adopt,omitempty"`
	AcceptAdmin bool                `json:"accept_admin_client,omitempty"`
}

// Channel is one channel's settings.
type Channel struct {
	Enabled   bool   `json:"enabled"`
	Tool      string `json:"tool,omitempty"`   // where the real tool is now; it is copied into the vault
	SHA256    string `json:"sha256,omitempty"` // that a person gave, or confirmed at a terminal
	Account   string `json:"account,omitempty"`
	TokenFile string `json:"token_file,omitempty"`
}

// Import is a tool that `tools import` brought in.
type Import struct {
	Source string `json:"source"`
	SHA256 string `json:"sha256,omitempty"`
}

// Defaults are the settings of somebody who has decided nothing yet.
func Defaults() Settings {
	return Settings{
		ServiceUser: "carapace",
		ClientGroup: "carapace-clients",
		Channels:    map[string]Channel{"loopback": {Enabled: true}},
		Start:       true,
	}
}

// ParseSettings reads the settings of a receipt.
func ParseSettings(data json.RawMessage) (Settings, error) {
	s := Defaults()
	if len(data) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%w: its settings: %w", plan.ErrReceipt, err)
	}
	return s, nil
}

// Release is what is installed: the folder that the programs are in, and their
// version.
type Release struct {
	Dir     string
	Version string
}

// built are the channels that this version can serve, and the tool and shim of
// each. One that a configuration may name and that is not here cannot be
// enabled.
var built = map[string]string{"loopback": "", "imessage": "imsg"}

// Channels names the channels that can be enabled, in order.
func Channels() []string { return slices.Sorted(maps.Keys(built)) }

// ToolOf names the tool of a channel; empty for one that has none.
func ToolOf(channel string) string { return built[channel] }

// programs are what a release holds. The relay is not part of every one.
var programs = []struct {
	name     string
	optional bool
	purpose  string
}{
	{"carapaced", false, "the gateway, which decides and holds the credentials"},
	{"carapace-relay", true, "the listening side of signal-cli daemon and of gog"},
	{"carapace-setup", false, "what made this installation also checks and removes it"},
	{"carapacectl", false, "how people and agents ask the gateway"},
	{"carapace-shim", false, "what stands where the agent expects the real tools"},
}

// Hint names the prefix to use when a parent of the default one is not root's.
func Hint(system string) string {
	if system == platform.MacOS {
		return "install elsewhere: --prefix /Library/Carapace"
	}
	return "install elsewhere: --prefix /opt/carapace"
}

// Header is what the receipt says about an installation with these settings.
func Header(s Settings, p platform.Platform, r Release) (plan.Header, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return plan.Header{}, err
	}
	return plan.Header{
		Version: r.Version, OS: p.OS(), Prefix: p.Paths().Prefix,
		ServiceUser: s.ServiceUser, ClientGroup: s.ClientGroup, Clients: append([]string{}, s.Clients...),
		Settings: data,
	}, nil
}

// Steps is the whole installation, in order. An error means that the settings
// or the release make no installation; what is in the way on the machine is for
// each step's plan to find.
func Steps(ctx context.Context, s Settings, p platform.Platform, r Release) ([]plan.Step, error) {
	b := &builder{s: s, p: p, where: p.Paths(), r: r, ctx: ctx}
	b.accounts()
	b.folders()
	b.tools()
	b.programs()
	b.configuration()
	b.services()
	if b.err != nil {
		return nil, b.err
	}
	return step.On(p, b.steps...), nil
}

// builder collects steps and the first error.
type builder struct {
	ctx   context.Context
	s     Settings
	p     platform.Platform
	where platform.Paths
	r     Release

	steps  []plan.Step
	files  []string          // that install.json names, with their hashes
	inputs []string          // hashes of what the running gateway has read
	vault  map[string]string // path in the vault by tool
	facts  *step.Facts
	err    error
}

func (b *builder) add(s plan.Step) { b.steps = append(b.steps, s) }

func (b *builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// accounts: two groups, one user, and who is in which group.
func (b *builder) accounts() {
	user, clients := b.s.ServiceUser, b.s.ClientGroup
	everyone := append([]string{user}, b.s.Clients...)
	b.add(&step.Group{Name: user, Expected: []string{user}, Adopt: b.s.Adopt,
		Purpose: "the service user's own primary group: nobody else is in it"})
	b.add(&step.Group{Name: clients, Expected: everyone, Adopt: b.s.Adopt,
		Purpose: "who is in it may open the socket's folder; the gateway still asks the kernel who calls"})
	shell := "/usr/sbin/nologin"
	if b.p.OS() == platform.MacOS {
		shell = "/usr/bin/false"
	}
	b.add(&step.User{Name: user, Group: user, Home: b.where.Home, Shell: shell, Prefix: b.where.Prefix,
		Adopt: b.s.Adopt, Clients: b.s.Clients, MayBeIn: []string{clients},
		CronDirs: []string{"/var/spool/cron/crontabs", "/var/spool/cron", "/var/at/tabs"},
		Purpose:  "the account that holds the credentials and that the agent is not"})
	b.add(&step.Member{Group: clients, User: user,
		Purpose: "the gateway gives its socket to this group, however it was started"})
	for _, c := range b.s.Clients {
		b.add(&step.Member{Group: clients, User: c, Purpose: "a client: its agents run as this user"})
	}
}

// folders, outermost first.
func (b *builder) folders() {
	w, user, clients := b.where, b.s.ServiceUser, b.s.ClientGroup
	dir := func(path, owner, group string, mode step.Mode, purpose string) *step.Dir {
		d := &step.Dir{Path: path, User: owner, Group: group, Mode: mode, Purpose: purpose, Adopt: b.s.Adopt}
		b.add(d)
		return d
	}
	top := dir(w.Prefix, "root", "root", 0o755, "programs, root's alone to change")
	top.Hint, top.Top = Hint(b.p.OS()), true
	for _, p := range []string{w.Bin, w.Libexec, w.Tools, w.Share} {
		dir(p, "root", "root", 0o755, "programs, root's alone to change")
	}
	dir(w.Config, "root", user, 0o750, "the configuration: the gateway reads it, root writes it").Kept = true
	dir(w.Secrets, "root", user, 0o750, "tokens: the gateway reads them, root writes them").Kept = true
	dir(w.State, user, user, 0o700, "audit log, dead letters, mailboxes").Kept = true
	dir(w.Home, user, user, 0o700, "the service user's home: what the real tools keep").Kept = true
	if w.Logs != "" {
		dir(w.Logs, user, user, 0o700, "what the gateway says about itself").Tree = true
	}
	dir(w.Spool, "root", "root", 0o711, "the clients' folders of inbound files; who is a client is not listed")
	for _, c := range b.s.Clients {
		b.add(&step.Spool{Path: w.SpoolOf(c), Client: c, User: user, Group: user,
			Purpose: "files that came in for " + c + ": the gateway writes, " + c + " reads, nobody else"})
	}
	dir(w.Run, user, clients, 0o750, "the sockets: a client can reach them and can put nothing in their place").Tree = true
}

// tools: copies of the real ones, in the vault.
func (b *builder) tools() {
	imports := make(map[string]Import)
	maps.Copy(imports, b.s.Tools)
	for _, name := range slices.Sorted(maps.Keys(b.s.Channels)) {
		c := b.s.Channels[name]
		tool, ok := built[name]
		if !c.Enabled || !ok || tool == "" || c.Tool == "" {
			continue
		}
		if path.Clean(c.Tool) == b.where.Tool(tool) {
			if _, ok := imports[tool]; !ok {
				b.fail(fmt.Errorf("channel %s: %s is in the vault and was never imported", name, c.Tool))
			}
			continue
		}
		imports[tool] = Import{Source: c.Tool, SHA256: c.SHA256}
	}
	b.vault = make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		if !plainName(name) {
			b.fail(fmt.Errorf("tool %q: want a plain name", name))
			return
		}
		im := imports[name]
		to := b.where.Tool(name)
		b.add(&step.Dir{Path: path.Dir(to), User: "root", Group: "root", Mode: 0o755,
			Purpose: "one tool's part of the vault", Adopt: b.s.Adopt})
		b.add(&step.Tool{Name: name, Source: im.Source, Path: to, SHA256: im.SHA256,
			Purpose: "run where it was found it could be replaced by the agent, and would run as the service user"})
		b.vault[name] = to
		b.files = append(b.files, to)
		b.inputs = append(b.inputs, im.Source+" "+im.SHA256)
	}
}

func plainName(s string) bool { return platform.CheckName(s) == nil }

// source is where a program of the release is. An installed carapace-setup that
// runs from its own folder finds the others where it put them.
func (b *builder) source(name string) string {
	if b.r.Dir == b.where.Bin {
		return b.where.Program(name)
	}
	return filepath.Join(b.r.Dir, name)
}

// programs: copied, root's, and the shim under the name of each tool.
func (b *builder) programs() {
	for _, pr := range programs {
		from, to := b.source(pr.name), b.where.Program(pr.name)
		f := &step.File{Path: to, User: "root", Group: "root", Mode: 0o755, Source: from, Purpose: pr.purpose,
			Hint: "build the programs first: go tool mage build; then run dist/carapace-setup"}
		sum, err := b.p.Files().Hash(from)
		if missing(err) {
			// On paper, or before a build: the plan says what it would be, and
			// the step's own that it cannot be.
			if sum, err = "unknown", nil; pr.optional {
				continue
			}
		}
		if err != nil {
			b.fail(fmt.Errorf("program %s: %w", pr.name, err))
			return
		}
		f.SHA256 = sum
		if pr.name == "carapaced" {
			b.inputs = append(b.inputs, sum)
		}
		b.add(f)
		b.files = append(b.files, to)
	}
	for _, name := range slices.Sorted(maps.Keys(b.s.Channels)) {
		if tool := built[name]; tool != "" && b.s.Channels[name].Enabled {
			link := b.where.Bin + "/" + tool
			b.add(&step.Link{Path: link, Target: b.where.Program("carapace-shim"),
				Purpose: "the shim is called as the tool it stands for"})
			b.files = append(b.files, link)
		}
	}
}

// configuration: what the gateway may do, what everybody may know, and PATH.
func (b *builder) configuration() {
	text, err := b.s.Config(b.vault)
	if err != nil {
		b.fail(err)
		return
	}
	conf := &step.File{Path: b.where.ConfigFile, User: "root", Group: b.s.ServiceUser, Mode: 0o640,
		Content: string(text), Edited: true,
		Purpose: "what the gateway may do; yours to edit, and kept as you leave it"}
	b.add(conf)
	sum, err := platform.Sum(bytesReader(text))
	if err != nil {
		b.fail(err)
		return
	}
	b.inputs = append(b.inputs, sum)
	b.facts = &step.Facts{Path: b.where.Facts, Version: b.r.Version, Prefix: b.where.Prefix,
		ServiceUser: b.s.ServiceUser, Socket: b.where.Socket, AdminSocket: b.where.Admin, Spool: b.where.Spool,
		Clients: append([]string{}, b.s.Clients...), Files: b.files,
		Purpose: "what the programs must know of each other, and the hashes that verify compares"}
	b.add(b.facts)
	hint := b.where.PathHint
	if !b.p.Paper() && !b.exists(path.Dir(hint)) {
		return // this system's shells do not look there
	}
	profile := []byte(b.where.Bin + "\n")
	if b.p.OS() == platform.Linux {
		if profile, err = templates.Profile(b.values()); err != nil {
			b.fail(err)
			return
		}
	}
	b.add(&step.File{Path: hint, User: "root", Group: "root", Mode: 0o644, Content: string(profile),
		Purpose: "puts the shims into PATH, for convenience: it is no boundary"})
}

// Config writes the configuration of these settings; vault says where each
// tool is.
func (s Settings) Config(vault map[string]string) ([]byte, error) {
	o := config.DefaultOptions{Clients: s.Clients, Region: s.Region, AllowOutbound: s.Outbound, AllowInbound: s.Inbound}
	for _, name := range slices.Sorted(maps.Keys(s.Channels)) {
		c := s.Channels[name]
		tool, ok := built[name]
		switch {
		case !slices.Contains(known, name):
			return nil, plan.WithHint(fmt.Errorf("channel %q: there is no such channel", name), "there are: "+strings.Join(known, ", "))
		case !ok && c.Enabled:
			return nil, plan.WithHint(fmt.Errorf("channel %q: this version does not serve it", name),
				"it serves "+strings.Join(Channels(), ", ")+"; for the others: enabled: false")
		case !ok:
			continue
		case c.Enabled && tool != "" && vault[tool] == "":
			return nil, plan.WithHint(fmt.Errorf("channel %s: it needs the real %s", name, tool),
				fmt.Sprintf("channels: {%s: {enabled: true, tool: /path/of/%s}}", name, tool))
		}
		o.Channels = append(o.Channels, config.DefaultChannel{Name: name, Enabled: c.Enabled, Tool: vault[tool], Account: c.Account})
	}
	return config.Default(o)
}

// known are the channels that an answers file may mention (interface §3).
var known = []string{"loopback", "imessage", "signal", "discord", "gmail"}

func (b *builder) values() templates.Values {
	w := b.where
	return templates.Values{
		Prefix: w.Prefix, ServiceUser: b.s.ServiceUser, ServiceGroup: b.s.ServiceUser, ClientGroup: b.s.ClientGroup,
		Config: w.ConfigFile, State: w.State, Run: w.Run, Spool: w.Spool, Logs: w.Logs, Home: w.Home,
	}
}

// services: the definitions, then the boot job, then the gateway.
func (b *builder) services() {
	if b.p.OS() == platform.Linux && !b.p.Paper() && b.p.Manager(b.ctx) == "" && !b.exists(b.where.Units) {
		// No systemd was ever here. The gateway's own step stays: it says why
		// nothing can be started, and ends at uninstall what was.
		b.service("carapace.service", b.s.ServiceUser)
		return
	}
	b.add(&step.Reload{Units: b.where.Units, Purpose: "after an uninstall the service manager forgets what is gone"})
	render, names := templates.Systemd, []string{templates.UnitRundir, templates.UnitGateway}
	units := []string{templates.UnitRundir, templates.UnitGateway}
	if b.p.OS() == platform.MacOS {
		render, names = templates.Launchd, []string{templates.PlistRundir, templates.PlistGateway}
		units = []string{"ai.carapace.rundir", "ai.carapace.gateway"}
	}
	jobs := []struct{ user, program string }{
		{"root", b.where.Prefix + "/bin/carapace-setup"}, {b.s.ServiceUser, b.where.Prefix + "/libexec/carapaced"},
	}
	for i, name := range names {
		text, err := render(name, b.values())
		if err == nil && b.p.OS() == platform.MacOS {
			err = step.CheckJob(text, units[i], jobs[i].user, jobs[i].program)
		}
		if err != nil {
			b.fail(err)
			return
		}
		b.add(&step.File{Path: b.where.Unit(name), User: "root", Group: "root", Mode: 0o644, Content: string(text),
			Purpose: "how the service manager runs it, every path spelled out"})
		sum, err := platform.Sum(bytesReader(text))
		if err != nil {
			b.fail(err)
			return
		}
		b.inputs = append(b.inputs, sum)
	}
	b.service(units[0], "")
	b.service(units[1], b.s.ServiceUser)
}

func (b *builder) service(unit, user string) {
	s := &step.Service{Unit: unit, Start: b.s.Start, User: user, Prefix: b.where.Prefix}
	if user == "" {
		s.Purpose = "makes and checks the socket folder at every boot"
	} else {
		s.Purpose = "the gateway itself"
		s.Inputs = b.inputs
	}
	b.add(s)
}

func (b *builder) exists(name string) bool {
	_, err := b.p.Files().Lstat(name)
	return err == nil
}

// Check finds what is in the way of the settings as a whole, beside what the
// steps find.
func Check(ctx context.Context, s Settings, p platform.Platform) []plan.Trouble {
	var found []plan.Trouble
	in := func(title string, err error, hints ...string) {
		found = append(found, plan.Trouble{Title: title, Err: plan.WithHint(err, hints...)})
	}
	for _, n := range []struct{ what, name string }{{"service user", s.ServiceUser}, {"client group", s.ClientGroup}} {
		if err := platform.CheckName(n.name); err != nil {
			in(n.what, err)
		}
	}
	if s.ServiceUser == s.ClientGroup {
		in("client group", errors.New("its name is that of the service user's own group"))
	}
	if p.Paper() {
		return found
	}
	for _, c := range s.Clients {
		if _, err := p.User(ctx, c); err != nil {
			in("client "+c, err)
		}
	}
	parent := path.Dir(p.Paths().Prefix)
	if info, err := p.Files().Lstat(parent); err != nil || !info.IsDir() {
		in("prefix "+p.Paths().Prefix, fmt.Errorf("%s is not there", parent), "make that folder first, or choose another --prefix")
	}
	if l, ok := p.(interface{ Missing() []string }); ok {
		for _, cmd := range l.Missing() {
			in("this system", fmt.Errorf("%s is not there", cmd), "install the package that has it (Debian: passwd, libc-bin, coreutils)")
		}
	}
	return found
}
