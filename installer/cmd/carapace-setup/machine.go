package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/carapace-gateway/carapace/gateway/wire"
	"github.com/carapace-gateway/carapace/installer"
	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
	"github.com/carapace-gateway/carapace/installer/step"
)

// machine is the system that a command works on, and what the receipt says
// about it.
type machine struct {
	sys     platform.Platform
	store   *plan.File
	receipt *plan.Receipt // nil: none, or not to be read
	unlock  func()
}

// on returns the system that the flags choose. execute says that it may be
// changed; a system of another kind only with CARAPACE_FOREIGN_OS=1.
func (a *app) on(o *options, execute bool) (*machine, error) {
	system := o.os
	if system == "" {
		system = hostOS()
	}
	foreign := system != hostOS()
	if foreign && execute {
		if a.env("CARAPACE_FOREIGN_OS") != "1" {
			return nil, usageError{plan.WithHint(fmt.Errorf("--os %s: this is not such a system", system), name+" plan --os "+system)}
		}
	}
	if system == platform.MacOS && execute {
		return nil, &plan.ConflictError{Conflicts: []plan.Trouble{{Title: "macOS", Err: plan.WithHint(
			errors.New("this version plans an installation on macOS and does not carry it out"), name+" plan --os macos")}}}
	}
	where, err := platform.NewPaths(system, o.prefix, a.root)
	if err != nil {
		return nil, usageError{err}
	}
	m := &machine{store: &plan.File{Path: where.ReceiptAt, Mutated: a.mutated}}
	// The receipt says where the programs are, unless a flag does.
	if !foreign && isRoot() {
		if m.receipt, err = m.store.Load(); err != nil {
			return nil, err
		}
		if m.receipt != nil && o.prefix == "" {
			if where, err = platform.NewPaths(system, m.receipt.Prefix, a.root); err != nil {
				return nil, fmt.Errorf("%w: %w", plan.ErrReceipt, err)
			}
		}
	}
	if m.receipt == nil && o.prefix == "" && !foreign {
		// Whoever may not read the receipt still asks about the installation
		// that this very program belongs to.
		if file, err := wire.FactsPath(); err == nil {
			if f, err := wire.ReadInstallFacts(file); err == nil {
				if where, err = platform.NewPaths(system, f.Prefix, a.root); err != nil {
					return nil, err
				}
			}
		}
	}
	switch system {
	case platform.MacOS:
		m.sys = platform.NewMac(where, foreign, a.mutated)
	default:
		l := platform.NewLinux(where, a.mutated)
		if foreign {
			l.FS.Paper = true
			l.OnPaper = true
		}
		if a.manager != nil {
			a.manager(l)
		}
		m.sys = l
	}
	return m, nil
}

// lock keeps other runs away and reads the receipt again behind it.
func (m *machine) lock() error {
	if err := m.sys.Files().CheckParents(m.sys.Paths().ReceiptAt); err != nil {
		return &plan.ConflictError{Conflicts: []plan.Trouble{{Title: "receipt", Err: err}}}
	}
	unlock, err := plan.Lock(m.sys.Paths().Receipt)
	if err != nil {
		return err
	}
	m.unlock = unlock
	if err = m.store.Sweep(); err == nil {
		m.receipt, err = m.store.Load()
	}
	if err != nil {
		m.done()
	}
	return err
}

// done lets other runs in.
func (m *machine) done() {
	if m.unlock != nil {
		m.unlock()
		m.unlock = nil
	}
}

func (m *machine) engine() *plan.Engine {
	return &plan.Engine{Store: m.store, Decode: step.Decode(m.sys)}
}

// settings are those of the receipt, or the defaults.
func (m *machine) settings() (installer.Settings, error) {
	if m.receipt == nil {
		return installer.Defaults(), nil
	}
	return installer.ParseSettings(m.receipt.Settings)
}

// facts reads install.json, which everybody may.
func (m *machine) facts() (*wire.InstallFacts, error) {
	f, err := wire.ReadInstallFacts(m.sys.Paths().Facts)
	if err != nil {
		return nil, plan.WithHint(fmt.Errorf("%w (%w)", errNoFacts, err), fmt.Sprintf("sudo -k %s install", name))
	}
	return f, nil
}

var errNoFacts = errors.New("carapace is not installed here")

// printJSON prints data as JSON, for scripts and for eyes: what a terminal could
// misread (bidirectional, zero-width, C1) is written as its escape.
func (a *app) printJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range string(text) {
		if s := string(r); r == '\n' || wire.Escape(s) == s {
			b.WriteString(s)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, "\\u%04x", u)
		}
	}
	_, err = fmt.Fprintln(a.stdout, b.String())
	return err
}
