package step

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Member is one user's membership in one group.
type Member struct {
	Group   string `json:"group"`
	User    string `json:"user"`
	Purpose string `json:"-"`

	machine
}

// Kind implements plan.Step.
func (*Member) Kind() string { return "member" }

// Key implements plan.Step.
func (m *Member) Key() string { return m.User + " in " + m.Group }

// Title implements plan.Step.
func (m *Member) Title() string { return fmt.Sprintf("add %s to group %s", m.User, m.Group) }

// Detail implements plan.Describer.
func (m *Member) Detail() string { return "" }

// Why implements plan.Describer.
func (m *Member) Why() string { return m.Purpose }

func (m *Member) is(ctx context.Context) (bool, error) {
	g, err := m.sys.Group(ctx, m.Group)
	if errors.Is(err, platform.ErrNotFound) {
		return false, nil
	}
	return slices.Contains(g.Members, m.User), err
}

// Plan implements plan.Step.
func (m *Member) Plan(ctx context.Context) (plan.Change, error) {
	is, err := m.is(ctx)
	if err != nil {
		return "", err
	}
	if is {
		return plan.Adopt, nil
	}
	return plan.Make, nil
}

// Apply implements plan.Step.
func (m *Member) Apply(ctx context.Context) error {
	is, err := m.is(ctx)
	if err != nil || is {
		return err
	}
	return m.sys.AddMember(ctx, m.Group, m.User)
}

// Verify implements plan.Step.
func (m *Member) Verify(ctx context.Context) error {
	is, err := m.is(ctx)
	if err == nil && !is {
		err = fmt.Errorf("%s is not in group %s", m.User, m.Group)
	}
	return err
}

// Revert implements plan.Step. A group that is gone has no members.
func (m *Member) Revert(ctx context.Context) error {
	is, err := m.is(ctx)
	if err != nil || !is {
		return err
	}
	return m.sys.RemoveMember(ctx, m.Group, m.User)
}
