package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer"
	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
	"github.com/carapace-gateway/carapace/installer/prompt"
)

// plan is the command of the same name.
func (a *app) plan(o *options, _ []string) error {
	m, err := a.on(o, false)
	if err != nil {
		return err
	}
	if !isRoot() && !m.sys.Paper() {
		if _, err := m.facts(); err == nil {
			return plan.WithHint(fmt.Errorf("an installation stands here, and its receipt is root's: %w", errRoot), fmt.Sprintf("sudo -k %s plan", name))
		}
	}
	s, err := a.settings(m, o)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if len(s.Clients) == 0 {
		// Whoever asks is the likely client; root is nobody's.
		if me, err := user.Current(); err == nil && me.Uid != "0" {
			s.Clients = []string{me.Username}
		} else {
			a.say("no client was named; with --client USER the plan has that user's part too")
		}
	}
	if err := a.checkClients(ctx, m, s, false); err != nil {
		return err
	}
	d, err := a.draft(ctx, m, s)
	if err != nil {
		return err
	}
	if !o.json {
		a.notes(ctx, d)
		a.list(a.stdout, d, o.explain)
		return d.Err()
	}
	type line struct {
		Kind   string      `json:"kind"`
		Title  string      `json:"title"`
		Change plan.Change `json:"change"`
		Detail string      `json:"detail"`
		Why    string      `json:"why,omitempty"`
	}
	out := struct {
		OS        string   `json:"os"`
		Steps     []line   `json:"steps"`
		Undo      []string `json:"undo,omitempty"`
		Conflicts []string `json:"conflicts,omitempty"`
	}{OS: m.sys.OS(), Steps: []line{}}
	for _, it := range d.Items {
		l := line{Kind: it.Step.Kind(), Title: it.Step.Title(), Change: it.Change, Detail: plan.Detail(it.Step)}
		if o.explain {
			l.Why = plan.Why(it.Step)
		}
		out.Steps = append(out.Steps, l)
	}
	for _, it := range d.Obsolete {
		out.Undo = append(out.Undo, it.Step.Title())
	}
	for _, c := range d.Conflicts {
		out.Conflicts = append(out.Conflicts, c.Title+": "+c.Err.Error())
	}
	if err := a.printJSON(out); err != nil {
		return err
	}
	return d.Err()
}

// status is the command of the same name.
func (a *app) status(o *options, _ []string) error {
	m, err := a.on(o, false)
	if err != nil {
		return err
	}
	st := struct {
		Installed   bool     `json:"installed"`
		Complete    bool     `json:"complete"`
		Version     string   `json:"version,omitempty"`
		OS          string   `json:"os"`
		Prefix      string   `json:"prefix,omitempty"`
		ServiceUser string   `json:"service_user,omitempty"`
		Clients     []string `json:"clients"`
		Channels    []string `json:"channels,omitempty"`
		Gateway     string   `json:"gateway"`
		Start       *bool    `json:"start,omitempty"`
		AcceptAdmin bool     `json:"accept_admin_client"`
		Unfinished  []string `json:"unfinished,omitempty"`
		Kept        []string `json:"kept,omitempty"`
	}{OS: m.sys.OS(), Clients: []string{}, Gateway: "unknown"}
	if f, err := m.facts(); err == nil {
		st.Installed, st.Complete = true, true
		st.Version, st.Prefix, st.ServiceUser, st.Clients = f.Version, f.Prefix, f.ServiceUser, f.Clients
		st.Gateway = listening(f.Socket)
	}
	if r := m.receipt; r != nil {
		s, err := m.settings()
		if err != nil {
			return err
		}
		st.Installed, st.Version, st.Prefix, st.ServiceUser = r.Installed(), r.Version, r.Prefix, r.ServiceUser
		st.Start, st.AcceptAdmin = &s.Start, s.AcceptAdmin
		for name, c := range s.Channels {
			if c.Enabled {
				st.Channels = append(st.Channels, name)
			}
		}
		slices.Sort(st.Channels)
		st.Unfinished = r.Unfinished()
		for _, e := range r.Steps {
			if e.State == plan.Kept {
				st.Kept = append(st.Kept, e.Key)
			}
		}
		st.Complete = st.Installed && len(st.Unfinished) == 0
	}
	if o.json {
		err = a.printJSON(st)
	} else {
		switch {
		case !st.Installed && len(st.Kept) == 0:
			a.line("not installed")
		case !st.Installed:
			a.line("not installed; kept by the last uninstall:")
			for _, k := range st.Kept {
				a.line("  %s", k)
			}
		default:
			a.line("carapace %s in %s, service user %s", st.Version, st.Prefix, st.ServiceUser)
			a.line("clients: %s", strings.Join(st.Clients, ", "))
			if st.Channels != nil {
				a.line("channels: %s", strings.Join(st.Channels, ", "))
			}
			a.line("gateway: %s", st.Gateway)
			if st.AcceptAdmin {
				a.line("accepted: a client can become root without a password; nothing is protected from it")
			}
			for _, u := range st.Unfinished {
				a.line("not finished: %s", u)
			}
		}
	}
	if err == nil && st.Installed && !st.Complete {
		a.say("hint: sudo -k %s install goes on, sudo -k %s uninstall goes back", name, name)
		return exitError(wire.ExitPartial)
	}
	return err
}

// listening says whether anybody answers at the socket.
func listening(socket string) string {
	c, err := net.DialTimeout("unix", socket, 2*time.Second)
	switch {
	case err == nil:
		c.Close()
		return "running"
	case errors.Is(err, os.ErrNotExist), isRefused(err):
		return "not running"
	}
	return "unknown"
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// uninstall is the command of the same name.
func (a *app) uninstall(o *options, _ []string) error {
	if err := needRoot("uninstall"); err != nil {
		return err
	}
	m, err := a.on(o, true)
	if err != nil {
		return err
	}
	var ask prompt.Prompter
	if !o.yes {
		// Unlike an install, which has questions to ask, this has only one: are
		// you sure? Root who types it into a script is.
		if t, err := prompt.NewTerminal(a.stdin, a.stderr, a.colour(a.stderr)); err == nil {
			ask = t
		}
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.done()
	if m.receipt == nil {
		a.line("nothing to undo: there is no receipt")
		return nil
	}
	if ask != nil {
		for i := len(m.receipt.Steps) - 1; i >= 0; i-- {
			if e := m.receipt.Steps[i]; e.Change != plan.Adopt && e.Change != plan.None && e.State != plan.Reverted && e.State != plan.Planned {
				fmt.Fprintf(a.stderr, "  undo   %s\n", wire.Escape(e.Title))
			}
		}
		question := "Undo all this? State, secrets and home are kept for root."
		if o.purge {
			question = "Undo all this, and delete state, secrets and home?"
		}
		ok, err := ask.Confirm(question, "kept things are removed by: uninstall --purge", false)
		if err != nil {
			return interrupted(err)
		}
		if !ok {
			return errors.New("nothing was changed")
		}
	}
	stop, release := a.interrupts(nil)
	defer release()
	e := m.engine()
	e.Progress, e.Between = a.progress(), stop
	kept, err := e.Revert(context.Background(), m.receipt, o.purge)
	for _, k := range kept {
		a.line("kept, for root alone: %s", k)
	}
	if err != nil {
		return err
	}
	a.line("uninstalled")
	return nil
}

// rundir is the command of the same name.
func (a *app) rundir(o *options, _ []string) error {
	if err := needRoot("rundir"); err != nil {
		return err
	}
	m, err := a.on(o, true)
	if err != nil {
		return err
	}
	if m.receipt == nil || !m.receipt.Installed() {
		return plan.WithHint(installer.ErrNotInstalled, fmt.Sprintf("sudo -k %s install", name))
	}
	return installer.Rundir(context.Background(), m.sys, m.receipt.ServiceUser, m.receipt.ClientGroup)
}

// toolsIn are the vault's files among the facts.
func toolsIn(f *wire.InstallFacts, where platform.Paths) []wire.InstallFile {
	var in []wire.InstallFile
	for _, file := range f.Files {
		if platform.Under(file.Path, where.Tools) {
			in = append(in, file)
		}
	}
	return in
}

// tools is the command of the same name.
func (a *app) tools(o *options, args []string) error {
	word := ""
	if len(args) > 0 {
		word, args = args[0], args[1:]
	}
	switch {
	case word == "import" && len(args) == 2:
		return a.importTool(o, args[0], args[1])
	case (word == "list" || word == "check") && len(args) == 0:
	default:
		return usageError{plan.WithHint(errors.New("want import NAME PATH, list or check"), name+" tools --help")}
	}
	m, err := a.on(o, false)
	if err != nil {
		return err
	}
	facts, err := m.facts()
	if err != nil {
		return err
	}
	type tool struct {
		Name    string `json:"name"`
		Path    string `json:"path"`
		SHA256  string `json:"sha256"`
		Problem string `json:"problem,omitempty"`
	}
	all, bad := []tool{}, false
	for _, f := range toolsIn(facts, m.sys.Paths()) {
		t := tool{Name: filepath.Base(f.Path), Path: f.Path, SHA256: f.SHA256}
		if word == "check" {
			if err := intact(m.sys.Files(), f); err != nil {
				t.Problem, bad = err.Error(), true
			}
		}
		all = append(all, t)
	}
	if o.json {
		err = a.printJSON(all)
	} else {
		for _, t := range all {
			switch {
			case t.Problem != "":
				a.line("%s BAD: %s", t.Name, t.Problem)
			case word == "check":
				a.line("%s ok %s", t.Name, t.Path)
			default:
				a.line("%s %s %s", t.Name, t.Path, t.SHA256)
			}
		}
	}
	if err == nil && bad {
		a.say("hint: import it anew: sudo -k %s tools import NAME PATH", name)
		return exitError(wire.ExitFailed)
	}
	return err
}

func intact(f *platform.Files, file wire.InstallFile) error {
	if err := f.CheckParents(file.Path); err != nil {
		return err
	}
	info, err := f.Lstat(file.Path)
	switch {
	case err != nil:
		return err
	case !info.IsRegular() || !info.RootOnly():
		return fmt.Errorf("%s is %s of %v", file.Path, info.What(), info.Owner())
	}
	sum, err := f.Hash(file.Path)
	if err == nil && sum != file.SHA256 {
		err = fmt.Errorf("%s has sha256 %s and not %s", file.Path, sum, file.SHA256)
	}
	return err
}
