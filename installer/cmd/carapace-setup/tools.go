package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/carapace-gateway/carapace/installer"
	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
	"github.com/carapace-gateway/carapace/installer/prompt"
	"github.com/carapace-gateway/carapace/installer/step"
)

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// importTool copies a real tool into the vault. It is a step of the
// installation like every other one, so that the receipt knows it.
func (a *app) importTool(o *options, tool, path string) error {
	if err := platform.CheckName(tool); err != nil {
		return usageError{fmt.Errorf("tool name %w", err)}
	}
	if o.sha256 != "" && !hexSum.MatchString(o.sha256) {
		return usagef("--sha256 %q: want 64 hexadecimal digits in lower case", o.sha256)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return usageError{err}
	}
	if err := needRoot("tools import " + tool + " " + path); err != nil {
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
	if m.receipt == nil || !m.receipt.Installed() {
		return plan.WithHint(installer.ErrNotInstalled, fmt.Sprintf("sudo -k %s install", name))
	}
	s, err := m.settings()
	if err != nil {
		return err
	}
	conflict := func(err error, hints ...string) error {
		return &plan.ConflictError{Conflicts: []plan.Trouble{{Title: "import " + tool, Err: plan.WithHint(err, hints...)}}}
	}
	real, err := step.CheckOrigin(m.sys.Files(), path)
	if err != nil && !errors.Is(err, step.ErrOrigin) {
		return conflict(err)
	}
	if err != nil && o.sha256 == "" {
		hint := "say which file you mean: --sha256 H"
		if o.yes {
			return conflict(err, hint)
		}
		ask, terr := prompt.NewTerminal(a.stdin, a.stderr, a.colour(a.stderr))
		if terr != nil {
			return conflict(err, hint, "or answer for it at a terminal")
		}
		if o.sha256, err = a.answerFor(m, ask, real, err); err != nil {
			return interrupted(err)
		}
	}
	// From here on exactly this file is meant: the copy must have its hash.
	sum, err := m.sys.Files().Hash(real)
	if err != nil {
		return conflict(err)
	}
	if o.sha256 != "" && sum != o.sha256 {
		return conflict(fmt.Errorf("%s has sha256 %s and not %s", real, sum, o.sha256))
	}
	remember(&s, tool, installer.Import{Source: path, SHA256: sum})
	ctx := context.Background()
	d, err := a.draft(ctx, m, s)
	if err != nil {
		return err
	}
	if err := d.Err(); err != nil {
		return err
	}
	stop, release := a.interrupts(nil)
	defer release()
	e := m.engine()
	e.Progress, e.Between = a.progress(), stop
	if err := e.Apply(ctx, d); err != nil {
		return err
	}
	a.line("%s %s %s", tool, m.sys.Paths().Tool(tool), sum)
	return nil
}

// remember puts an import where the settings have that tool: with the channel
// whose tool it is, or beside the channels.
func remember(s *installer.Settings, tool string, im installer.Import) {
	channels := make(map[string]installer.Channel, len(s.Channels))
	of := ""
	for name, c := range s.Channels {
		channels[name] = c
		if installer.ToolOf(name) == tool && c.Enabled {
			of = name
		}
	}
	if of != "" {
		c := channels[of]
		c.Tool, c.SHA256 = im.Source, im.SHA256
		channels[of] = c
		s.Channels = channels
		return
	}
	tools := make(map[string]installer.Import, len(s.Tools)+1)
	for name, t := range s.Tools {
		tools[name] = t
	}
	tools[tool] = im
	s.Tools = tools
}
