package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Group is a group of the system. Its gid is chosen before it is made and is
// the proof that it is ours.
type Group struct {
	Name    string `json:"name"`
	Purpose string `json:"-"`

	// Expected are the only members that a group which is there already may
	// have; Adopt permits to use it at all. Both matter to the plan alone.
	Expected []string `json:"-"`
	Adopt    bool     `json:"-"`

	machine
	mem groupMemory
}

type groupMemory struct {
	GID uint32 `json:"gid"`
}

// Kind implements plan.Step.
func (*Group) Kind() string { return "group" }

// Key implements plan.Step.
func (g *Group) Key() string { return g.Name }

// Title implements plan.Step.
func (g *Group) Title() string { return "create group " + g.Name }

// Detail implements plan.Describer.
func (g *Group) Detail() string { return "a system group" }

// Why implements plan.Describer.
func (g *Group) Why() string { return g.Purpose }

// Memory implements plan.Rememberer.
func (g *Group) Memory() any { return g.mem }

// Recall implements plan.Rememberer.
func (g *Group) Recall(data json.RawMessage) error { return g.recallInto(data, &g.mem) }

// Plan implements plan.Step.
func (g *Group) Plan(ctx context.Context) (plan.Change, error) {
	have, err := g.sys.Group(ctx, g.Name)
	if errors.Is(err, platform.ErrNotFound) {
		return plan.Make, nil
	}
	if err != nil {
		return "", err
	}
	if g.recalled {
		if have.GID != g.mem.GID {
			return "", fmt.Errorf("group %s has gid %d, the receipt says %d: it is not the one we made", g.Name, have.GID, g.mem.GID)
		}
		return plan.Make, nil
	}
	var differs []string
	if have.GID == 0 {
		differs = append(differs, "its gid is 0")
	}
	for _, m := range have.Members {
		if !slices.Contains(g.Expected, m) {
			differs = append(differs, m+" is a member")
		}
	}
	switch {
	case len(differs) > 0:
		return "", plan.WithHint(fmt.Errorf("group %s exists and cannot be used: %s", g.Name, strings.Join(differs, ", ")),
			"change that, or choose another name in the answers file")
	case !g.Adopt:
		return "", plan.WithHint(fmt.Errorf("group %s exists and was not made by carapace-setup", g.Name),
			"use it as it is: --adopt")
	}
	return plan.Adopt, nil
}

// Prepare implements plan.Preparer.
func (g *Group) Prepare(ctx context.Context) error {
	have, err := g.sys.Group(ctx, g.Name)
	if err == nil {
		if g.mem.GID == 0 {
			g.mem.GID = have.GID
		}
		return nil
	}
	if !errors.Is(err, platform.ErrNotFound) {
		return err
	}
	if g.mem.GID != 0 {
		if _, err := g.sys.GroupByID(ctx, g.mem.GID); errors.Is(err, platform.ErrNotFound) {
			return nil
		}
	}
	g.mem.GID, err = g.sys.FreeGID(ctx)
	return err
}

// Apply implements plan.Step.
func (g *Group) Apply(ctx context.Context) error {
	have, err := g.sys.Group(ctx, g.Name)
	if err == nil {
		return g.check(have)
	}
	if !errors.Is(err, platform.ErrNotFound) {
		return err
	}
	if other, err := g.sys.GroupByID(ctx, g.mem.GID); err == nil {
		return fmt.Errorf("gid %d was given to group %s meanwhile: %w", g.mem.GID, other.Name, plan.ErrAgain)
	}
	return again(g.sys.CreateGroup(ctx, platform.Group{Name: g.Name, GID: g.mem.GID}))
}

func (g *Group) check(have platform.Group) error {
	if have.GID != g.mem.GID {
		return fmt.Errorf("group %s has gid %d, not %d: it is not the one we made", g.Name, have.GID, g.mem.GID)
	}
	return nil
}

// Verify implements plan.Step.
func (g *Group) Verify(ctx context.Context) error {
	have, err := g.sys.Group(ctx, g.Name)
	if err != nil {
		return err
	}
	return g.check(have)
}

// Revert implements plan.Step.
func (g *Group) Revert(ctx context.Context) error {
	have, err := g.sys.Group(ctx, g.Name)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := g.check(have); err != nil {
		return err
	}
	return g.sys.DeleteGroup(ctx, g.Name)
}
