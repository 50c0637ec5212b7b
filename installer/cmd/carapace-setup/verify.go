package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"time"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer"
	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
	"github.com/carapace-gateway/carapace/installer/probe"
)

// verify is the command of the same name.
func (a *app) verify(o *options, _ []string) error {
	m, err := a.on(o, false)
	if err != nil {
		return err
	}
	if m.sys.Paper() {
		return usagef("--os %s: this is not such a system, so nothing can be tried", m.sys.OS())
	}
	facts, err := m.facts()
	if err != nil {
		return err
	}
	s, err := m.settings()
	if err != nil {
		return err
	}
	s.ServiceUser, s.Clients = facts.ServiceUser, facts.Clients
	clients := []string(o.clients)
	switch me, err := user.Current(); {
	case len(clients) > 0:
	case isRoot():
		clients = facts.Clients
	case err != nil:
		return fmt.Errorf("who is asking: %w", err)
	default:
		clients = []string{me.Username}
	}
	if len(clients) == 0 {
		return usageError{plan.WithHint(errors.New("no client is known"), "--client USER")}
	}
	if len(clients) > 1 && o.json {
		return usageError{plan.WithHint(errors.New("JSON is about one client"), fmt.Sprintf("--client %s", clients[0]))}
	}
	worst := wire.ExitOK
	for _, c := range clients {
		r, err := a.probe(context.Background(), m, s, facts, c)
		if err != nil {
			return err
		}
		if o.json {
			err = a.printJSON(r)
		} else {
			err = r.Write(a.stdout, a.colour(a.stdout))
		}
		if err != nil {
			return err
		}
		worst = worse(worst, r.Exit())
	}
	if worst != wire.ExitOK {
		return exitError(worst)
	}
	return nil
}

// worse is the code that two reports give together: a failure before an
// unknown before a success.
func worse(x, y int) int {
	for _, c := range []int{wire.ExitFailed, wire.ExitUnverified} {
		if x == c || y == c {
			return c
		}
	}
	return max(x, y)
}

// probe tries whether the isolation from one client is real.
func (a *app) probe(ctx context.Context, m *machine, s installer.Settings, facts *wire.InstallFacts, client string) (probe.Report, error) {
	where := m.sys.Paths()
	u, err := m.sys.User(ctx, client)
	if err != nil {
		return probe.Report{}, fmt.Errorf("client: %w", err)
	}
	names, err := m.sys.GroupsOf(ctx, client)
	if err != nil {
		return probe.Report{}, err
	}
	group, err := m.sys.Group(ctx, s.ClientGroup)
	if err != nil {
		return probe.Report{}, err
	}
	var groups []uint32
	for _, n := range names {
		g, err := m.sys.Group(ctx, n)
		if err != nil {
			// Tried without one of its groups, the client would be shown to be
			// kept from what that group opens.
			return probe.Report{}, err
		}
		if g.GID != u.GID {
			groups = append(groups, g.GID)
		}
	}
	var units []string
	if m.receipt != nil {
		for _, e := range m.receipt.Steps {
			if e.Kind == "file" && platform.Under(e.Key, where.Units) {
				units = append(units, e.Key)
			}
		}
	} else {
		for _, n := range []string{"carapace.service", "carapace-rundir.service"} {
			if _, err := m.sys.Files().Lstat(where.Unit(n)); err == nil {
				units = append(units, where.Unit(n))
			}
		}
	}
	service, err := m.sys.User(ctx, s.ServiceUser)
	home := where.Home
	if err == nil {
		home = service.Home
	}
	return probe.Verify(ctx, probe.Target{
		OS: m.sys.OS(), Prefix: where.Prefix, Facts: *facts,
		Client: client, ClientUID: u.UID, ClientGID: u.GID, ClientGroups: groups,
		ServiceUser: s.ServiceUser, ClientGroup: s.ClientGroup, ClientGroupGID: group.GID, Accounts: m.sys,
		AcceptAdminClient: s.AcceptAdmin,
		Paths: probe.Paths{
			Home: home, State: where.State, Config: where.ConfigFile, Secrets: where.Secrets, Audit: where.State + "/audit",
			RunDir: where.Run, Receipt: where.ReceiptAt, Libexec: where.Libexec, Bin: where.Bin, Tools: where.Tools,
			SpoolRoot: where.Spool, Units: units,
		},
		SelfExe: where.Program(name), StartedByHand: m.sys.Manager(ctx) == "", Root: isRoot(),
	}, nil), nil
}

// prove ends an installation: success is said only after a client was answered
// by the service user and was refused what it may not do.
func (a *app) prove(ctx context.Context, m *machine, s installer.Settings, d *plan.Draft, o *options) error {
	facts, err := m.facts()
	if err != nil {
		return err
	}
	if s.Start {
		a.await(facts.Socket)
	}
	// Without a service manager somebody may have started it by hand before.
	running := s.Start || listening(facts.Socket) == "running"
	var reports []probe.Report
	failed, unknown, root := false, false, false
	for _, c := range s.Clients {
		r, err := a.probe(ctx, m, s, facts, c)
		if err != nil {
			return err
		}
		reports = append(reports, r)
		for _, ch := range r.Checks {
			switch {
			case ch.Class == probe.Fail:
				failed = true
				root = root || slices.Contains([]string{"privilege.sudo", "privilege.rules", "privilege.groups", "privilege.engines"}, ch.ID)
			case ch.Class == probe.Unknown && ch.Severity == probe.Critical:
				unknown = true
			}
		}
	}
	outcome, exit := "installed", wire.ExitOK
	switch {
	case failed:
		outcome, exit = "installed, isolation NOT real", wire.ExitFailed
	case unknown && running:
		outcome, exit = "installed, not verified", wire.ExitFailed
	case !running:
		outcome = "installed, not started"
	}
	if o.json {
		if err := a.printJSON(struct {
			Outcome string         `json:"outcome"`
			Changed int            `json:"changed"`
			Verify  []probe.Report `json:"verify"`
		}{outcome, d.Changes(), reports}); err != nil {
			return err
		}
	} else {
		a.summary(m, s, d, outcome, running, reports)
	}
	if failed && root {
		a.say("hint: run the agent as a user who cannot become root, or accept it: --accept-admin-client")
	}
	if s.OpenClaw {
		a.say("openclaw: true: this version does not point OpenClaw at the shims; put %s first in its PATH", m.sys.Paths().Bin)
		if exit == wire.ExitOK {
			exit = wire.ExitPartial
		}
	}
	if exit != wire.ExitOK {
		return exitError(exit)
	}
	return nil
}

// summary says how it ended and what is left to do by hand.
func (a *app) summary(m *machine, s installer.Settings, d *plan.Draft, outcome string, running bool, reports []probe.Report) {
	where := m.sys.Paths()
	for _, r := range reports {
		for _, c := range r.Checks {
			// Before the gateway runs, what only it can answer is no news.
			if c.Class == probe.Fail || c.Class == probe.Unknown && c.Severity == probe.Critical && running {
				a.say("%s: %s: %s: %s", r.Client, c.Class, c.Title, c.Evidence)
				if c.Remedy != "" {
					a.say("hint: %s", c.Remedy)
				}
			}
		}
	}
	if d.Changes() == 0 {
		a.line("%s; nothing had to be changed", outcome)
	} else {
		a.line("%s", outcome)
	}
	switch {
	case s.Start:
	case running:
		a.line("the gateway that runs was started by hand; start it anew to have what changed")
	default:
		a.line("start it by hand:")
		for _, c := range startByHand(where, s.ServiceUser) {
			a.line("  %s", c)
		}
		a.line("the live check waits for that: sudo -k %s verify", where.Program(name))
	}
	for _, c := range s.Clients {
		a.line("%s: log in anew (a running session does not know the group %s yet), then: %s ping", c, s.ClientGroup, where.Program("carapacectl"))
	}
}

// await waits, 30 s at most, until somebody listens at the socket. Who it is
// and what he says is for the probes.
func (a *app) await(socket string) {
	limit := 30 * time.Second
	if a.patient > 0 {
		limit = a.patient
	}
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if c, err := net.DialTimeout("unix", socket, time.Second); err == nil {
			c.Close()
			return
		} else if !errors.Is(err, os.ErrNotExist) && !isRefused(err) {
			return
		}
	}
}
