package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer"
	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
	"github.com/carapace-gateway/carapace/installer/prompt"
)

// install is the command of the same name.
func (a *app) install(o *options, _ []string) error {
	if err := needRoot("install"); err != nil {
		return err
	}
	m, err := a.on(o, true)
	if err != nil {
		return err
	}
	var ask prompt.Prompter
	if o.answers == "" && !o.yes {
		t, err := prompt.NewTerminal(a.stdin, a.stderr, a.colour(a.stderr))
		if err != nil {
			return usageError{plan.WithHint(errors.New("nobody can be asked here: stdin or stderr is not a terminal"),
				"--yes takes the defaults, --answers FILE takes them from a file")}
		}
		ask = t
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.done()
	ctx := context.Background()
	s, err := a.settings(m, o)
	if err != nil {
		return err
	}
	if ask != nil {
		if m.receipt != nil && len(m.receipt.Unfinished()) > 0 {
			a.say("an earlier run was interrupted; this one goes on from there")
		}
		if err := a.ask(ctx, m, ask, &s); err != nil {
			return interrupted(err)
		}
	}
	if err := a.checkClients(ctx, m, s, ask == nil); err != nil {
		return err
	}
	return a.carryOut(ctx, m, s, o, ask)
}

// interrupted turns a Ctrl-C at a question into the end of the run.
func interrupted(err error) error {
	if errors.Is(err, prompt.ErrInterrupted) {
		return errors.New("interrupted; nothing was changed")
	}
	return err
}

// settings are the receipt's, then the answers', then the flags'.
func (a *app) settings(m *machine, o *options) (installer.Settings, error) {
	s, err := m.settings()
	if err != nil {
		return s, err
	}
	if m.receipt == nil && a.base != nil {
		if err := a.base(&s); err != nil {
			return s, err
		}
	}
	if o.answers != "" {
		file, err := filepath.Abs(o.answers)
		if err != nil {
			return s, usageError{err}
		}
		answers, err := installer.ReadAnswers(file)
		if err != nil {
			return s, usageError{err}
		}
		s.Merge(answers)
	}
	for _, c := range o.clients {
		if !slices.Contains(s.Clients, c) {
			s.Clients = append(slices.Clone(s.Clients), c)
		}
	}
	if user := a.env("SUDO_USER"); len(s.Clients) == 0 && user != "" && user != "root" {
		s.Clients = []string{user}
	}
	s.Adopt = s.Adopt || o.adopt
	s.AcceptAdmin = s.AcceptAdmin || o.accept
	return s, nil
}

// checkClients holds every client against the rule of interface §3.
func (a *app) checkClients(ctx context.Context, m *machine, s installer.Settings, must bool) error {
	if len(s.Clients) == 0 && must {
		return usageError{plan.WithHint(errors.New("no client: whose agents are to use the gateway?"), "--client USER, or clients: [USER] in the answers")}
	}
	for i, c := range s.Clients {
		if slices.Contains(s.Clients[:i], c) {
			return usagef("client %s: named twice", c)
		}
		if c == "root" {
			return usagef("client root: what runs as root needs no gateway and is stopped by none")
		}
		if m.sys.Paper() {
			continue
		}
		u, err := m.sys.User(ctx, c)
		if errors.Is(err, platform.ErrNotFound) {
			return usageError{plan.WithHint(fmt.Errorf("client %s: there is no such user", c), "make the account first, or name another: --client USER")}
		}
		if err != nil {
			return err
		}
		if err := installer.CheckClient(u, m.sys, s.ServiceUser); err != nil {
			return usageError{plan.WithHint(fmt.Errorf("client %w", err), "name the user that your agent runs as: --client USER")}
		}
	}
	return nil
}

// sameAs refuses what would make a second installation out of the first.
func sameAs(r *plan.Receipt, s installer.Settings, where platform.Paths) []plan.Trouble {
	if r == nil || !r.Installed() {
		return nil
	}
	var found []plan.Trouble
	for _, v := range []struct{ what, was, is string }{
		{"prefix", r.Prefix, where.Prefix},
		{"service user", r.ServiceUser, s.ServiceUser},
		{"client group", r.ClientGroup, s.ClientGroup},
	} {
		if v.was != v.is {
			found = append(found, plan.Trouble{Title: v.what, Err: plan.WithHint(
				fmt.Errorf("an installation with %s stands here, and %s was asked for", v.was, v.is),
				fmt.Sprintf("uninstall first: sudo -k %s uninstall", name))})
		}
	}
	return found
}

// draft plans an installation and adds what is in the way of it as a whole.
func (a *app) draft(ctx context.Context, m *machine, s installer.Settings) (*plan.Draft, error) {
	conflicts := append(sameAs(m.receipt, s, m.sys.Paths()), installer.Check(ctx, s, m.sys)...)
	steps, err := installer.Steps(ctx, s, m.sys, a.release)
	if err != nil {
		conflicts = append(conflicts, plan.Trouble{Title: "settings", Err: err})
		return &plan.Draft{Conflicts: conflicts}, nil
	}
	h, err := installer.Header(s, m.sys, a.release)
	if err != nil {
		return nil, err
	}
	d, err := m.engine().Draft(ctx, h, steps, m.receipt)
	if err != nil {
		return nil, err
	}
	d.Conflicts = append(conflicts, d.Conflicts...)
	return d, nil
}

// carryOut plans, asks, does, and proves.
func (a *app) carryOut(ctx context.Context, m *machine, s installer.Settings, o *options, ask prompt.Prompter) error {
	d, err := a.draft(ctx, m, s)
	if err != nil {
		return err
	}
	if err := d.Err(); err != nil {
		return err
	}
	a.notes(ctx, d)
	if ask != nil || o.explain {
		a.list(a.stderr, d, o.explain)
	}
	if ask != nil && d.Changes() > 0 {
		ok, err := a.proceed(ask, d)
		if err != nil {
			return interrupted(err)
		}
		if !ok {
			return errors.New("nothing was changed")
		}
	}
	stop, release := a.interrupts(ask)
	defer release()
	e := m.engine()
	e.Progress, e.Between = a.progress(), stop
	if err := e.Apply(ctx, d); err != nil {
		return a.afterStop(ctx, m, err)
	}
	release()
	// The installed state is what is checked, and other runs may look at it.
	m.done()
	if a.untried {
		return nil
	}
	return a.prove(ctx, m, s, d, o)
}

// afterStop carries out what a person chose when the run was interrupted.
func (a *app) afterStop(ctx context.Context, m *machine, err error) error {
	if !errors.Is(err, errUndo) {
		return err
	}
	r, lerr := m.store.Load()
	if lerr != nil {
		return errors.Join(plan.ErrStopped, lerr)
	}
	e := m.engine()
	e.Progress = a.progress()
	if _, rerr := e.Revert(ctx, r, true); rerr != nil {
		return rerr
	}
	return errors.New("interrupted; all that was done was undone")
}

// proceed asks whether to do what was listed.
func (a *app) proceed(ask prompt.Prompter, d *plan.Draft) (bool, error) {
	for {
		w, err := ask.Choose("Proceed?", "yes does what is listed above, no changes nothing, explain says why each step is there",
			"yes", "no", "explain")
		if err != nil {
			return false, err
		}
		if w != "explain" {
			return w == "yes", nil
		}
		a.list(a.stderr, d, true)
	}
}

// list prints the steps with what would happen to each object.
func (a *app) list(to *os.File, d *plan.Draft, explain bool) {
	for _, it := range d.Obsolete {
		fmt.Fprintf(to, "  %-6s %s\n", "undo", wire.Escape(it.Step.Title()))
	}
	same := 0
	for _, it := range d.Items {
		if it.Change == plan.None && !explain {
			same++
			continue
		}
		line := it.Step.Title()
		if detail := plan.Detail(it.Step); detail != "" && explain {
			line += " (" + detail + ")"
		}
		fmt.Fprintf(to, "  %-6s %s\n", it.Change, wire.Escape(line))
		if why := plan.Why(it.Step); why != "" && explain {
			fmt.Fprintf(to, "         %s\n", wire.Escape(why))
		}
	}
	if same > 0 {
		fmt.Fprintf(to, "  %s already as they should be\n", count(same, "thing is", "things are"))
	}
}

// notes says what is left alone on purpose.
func (a *app) notes(ctx context.Context, d *plan.Draft) {
	for _, it := range d.Items {
		if n, ok := it.Step.(interface{ Note(context.Context) string }); ok {
			if text := n.Note(ctx); text != "" {
				a.say("%s", text)
			}
		}
	}
}

// progress prints one line a step, on a terminal.
func (a *app) progress() func(plan.Event) {
	if !isTerminal(a.stderr) {
		return nil
	}
	green, red, off := "", "", ""
	if a.colour(a.stderr) {
		green, red, off = "\x1b[32m", "\x1b[31m", "\x1b[0m"
	}
	return func(e plan.Event) {
		if !e.Done || (e.Change == plan.None && !e.Undo) {
			return
		}
		what := string(e.Change)
		if e.Undo {
			what = "undo"
		}
		end := green + "ok" + off
		if e.Err != nil {
			end = red + "failed" + off
		}
		if e.Note != "" {
			end = wire.Escape(e.Note)
		}
		fmt.Fprintf(a.stderr, "[%2d/%d] %-6s %s … %s\n", e.N, e.Of, what, wire.Escape(e.Title), end)
	}
}

// repair is the command of the same name: the installation that the receipt
// speaks of, once more.
func (a *app) repair(o *options, _ []string) error {
	if err := needRoot("repair"); err != nil {
		return err
	}
	m, err := a.on(o, true)
	if err != nil {
		return err
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.done()
	if m.receipt == nil {
		return plan.WithHint(installer.ErrNotInstalled, fmt.Sprintf("sudo -k %s install", name))
	}
	s, err := m.settings()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := a.checkClients(ctx, m, s, true); err != nil {
		return err
	}
	var ask prompt.Prompter
	if !o.yes {
		// Without a terminal there is nothing to decide: the receipt has.
		if t, err := prompt.NewTerminal(a.stdin, a.stderr, a.colour(a.stderr)); err == nil {
			ask = t
		}
	}
	return a.carryOut(ctx, m, s, o, ask)
}

// startByHand are the commands for a machine without a service manager.
func startByHand(where platform.Paths, serviceUser string) []string {
	return []string{
		where.Program(name) + " rundir",
		fmt.Sprintf("sudo -u %s %s", serviceUser, strings.Join([]string{where.Program("carapaced"),
			"--config", where.ConfigFile, "--state", where.State, "--run", where.Run, "--spool", where.Spool}, " ")),
	}
}
