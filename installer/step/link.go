package step

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/carapace-gateway/carapace/installer/plan"
)

// Link is a second name of one of our programs, in the same folder: what a
// shim is called says what it stands for.
type Link struct {
	Path    string `json:"path"`
	Target  string `json:"target"`
	Purpose string `json:"-"`

	machine
	mem linkMemory
}

type linkMemory struct {
	Sums []string `json:"sums,omitempty"` // hashes of what it was a name of
}

// Kind implements plan.Step.
func (*Link) Kind() string { return "link" }

// Key implements plan.Step.
func (l *Link) Key() string { return l.Path }

// Title implements plan.Step.
func (l *Link) Title() string { return "link " + l.Path }

// Detail implements plan.Describer.
func (l *Link) Detail() string { return "a second name of " + l.Target }

// Why implements plan.Describer.
func (l *Link) Why() string { return l.Purpose }

// Memory implements plan.Rememberer.
func (l *Link) Memory() any { return l.mem }

// Recall implements plan.Rememberer.
func (l *Link) Recall(data json.RawMessage) error { return l.recallInto(data, &l.mem) }

// same reports whether both are names of one file, and whether the second name
// is there at all.
func (l *Link) same() (there, same bool, err error) {
	info, err := l.files().Lstat(l.Path)
	if gone(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if !info.IsRegular() {
		return true, false, plan.WithHint(fmt.Errorf("%s is %s", l.Path, info.What()), "move it away")
	}
	target, err := l.files().Lstat(l.Target)
	if gone(err) {
		return true, false, nil
	}
	return true, target.Dev == info.Dev && target.Ino == info.Ino, err
}

// ours reports whether the file of that name is one that we linked there.
func (l *Link) ours() (bool, error) {
	have, err := l.files().Hash(l.Path)
	return err == nil && slices.Contains(l.mem.Sums, have), err
}

// Plan implements plan.Step.
func (l *Link) Plan(context.Context) (plan.Change, error) {
	if err := l.parents(l.Path); err != nil {
		return "", err
	}
	there, same, err := l.same()
	switch {
	case err != nil:
		return "", err
	case !there, l.recalled:
		return plan.Make, nil
	case same:
		return plan.Adopt, nil
	}
	return "", plan.WithHint(fmt.Errorf("%s exists and was not made by carapace-setup", l.Path), "move it away")
}

// Prepare implements plan.Preparer.
func (l *Link) Prepare(context.Context) error {
	sum, err := l.files().Hash(l.Target)
	if err == nil {
		l.mem.Sums = addSum(l.mem.Sums, sum)
	}
	return err
}

// Apply implements plan.Step.
func (l *Link) Apply(context.Context) error {
	there, same, err := l.same()
	if err != nil || same {
		return err
	}
	if there {
		ours, err := l.ours()
		if err != nil {
			return err
		}
		if !ours && !l.recalled {
			return fmt.Errorf("%s appeared while we were at work", l.Path)
		}
	}
	return l.files().Link(l.Target, l.Path)
}

// Verify implements plan.Step.
func (l *Link) Verify(context.Context) error {
	if err := l.files().CheckParents(l.Path); err != nil {
		return err
	}
	_, same, err := l.same()
	if err == nil && !same {
		err = fmt.Errorf("%s is not a name of %s", l.Path, l.Target)
	}
	return err
}

// Revert implements plan.Step.
func (l *Link) Revert(context.Context) error {
	there, same, err := l.same()
	if err != nil {
		return err
	}
	if there && !same {
		ours, err := l.ours()
		if err != nil {
			return err
		}
		if !ours {
			return plan.WithHint(fmt.Errorf("%s is not the link we made: left", l.Path), "remove it by hand: "+l.Path)
		}
	}
	return l.files().Remove(l.Path)
}
