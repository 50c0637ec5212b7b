package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Dir is a folder with its owner and its mode, of which nothing else is true:
// no link on the way, no folder above that anybody but root can write.
type Dir struct {
	Path    string `json:"path"`
	User    string `json:"user"`
	Group   string `json:"group"`
	Mode    Mode   `json:"mode"`
	Tree    bool   `json:"tree,omitempty"` // whatever is in it is ours: it goes with it
	Kept    bool   `json:"keep,omitempty"` // outlives an uninstall without purge, handed to root; else as Tree
	Purpose string `json:"-"`

	// Adopt permits to use a folder that is there already and holds files;
	// Hint is what to do when a folder above it is not root's alone. For the
	// plan alone.
	Adopt bool   `json:"-"`
	Hint  string `json:"-"`
	Top   bool   `json:"-"` // no folder above it is ours

	machine
	mem dirMemory
}

type dirMemory struct {
	Was  *owned `json:"was,omitempty"`  // before we altered it
	Kept bool   `json:"kept,omitempty"` // an uninstall handed it to root
}

// Kind implements plan.Step.
func (*Dir) Kind() string { return "dir" }

// Key implements plan.Step.
func (d *Dir) Key() string { return d.Path }

// Title implements plan.Step.
func (d *Dir) Title() string { return "create folder " + d.Path }

// Detail implements plan.Describer.
func (d *Dir) Detail() string { return fmt.Sprintf("%s:%s %s", d.User, d.Group, d.Mode) }

// Why implements plan.Describer.
func (d *Dir) Why() string { return d.Purpose }

// Memory implements plan.Rememberer.
func (d *Dir) Memory() any { return d.mem }

// Recall implements plan.Rememberer.
func (d *Dir) Recall(data json.RawMessage) error { return d.recallInto(data, &d.mem) }

// Plan implements plan.Step.
func (d *Dir) Plan(ctx context.Context) (plan.Change, error) {
	err := d.parents(d.Path)
	if d.Top {
		err = d.files().CheckParents(d.Path) // nothing of ours is above it
	}
	if err != nil {
		if _, ok := errors.AsType[*platform.ParentError](err); ok && d.Hint != "" {
			err = plan.WithHint(err, d.Hint)
		}
		return "", err
	}
	info, err := d.files().Lstat(d.Path)
	if gone(err) {
		return plan.Make, nil
	}
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", plan.WithHint(fmt.Errorf("%s is %s", d.Path, info.What()), "move it away")
	}
	if d.recalled {
		return plan.Make, nil
	}
	want, known, err := d.ownerYet(ctx, d.User, d.Group, d.Mode)
	if err != nil {
		return "", err
	}
	asked := known && info.Owner() == want
	names, err := d.files().Entries(d.Path)
	if err != nil {
		return "", err
	}
	switch {
	// What somebody else could write so far is not what we put secrets or
	// programs into, empty or not.
	case !asked && !info.RootOnly() && !(d.Adopt && known && info.UID == want.UID):
		return "", plan.WithHint(fmt.Errorf("%s exists, belongs to uid %d and has mode %04o", d.Path, info.UID, info.Mode),
			"move it away")
	case len(names) > 0 && !d.Adopt:
		return "", plan.WithHint(fmt.Errorf("%s exists, holds files and was not made by carapace-setup", d.Path),
			"move it away, or use it as it is: --adopt")
	case asked:
		return plan.Adopt, nil
	}
	d.mem.Was = ownedOf(info.Owner())
	return plan.Alter, nil
}

// Apply implements plan.Step.
func (d *Dir) Apply(ctx context.Context) error {
	want, err := d.owner(ctx, d.User, d.Group, d.Mode)
	if err != nil {
		return err
	}
	if d.mem.Kept {
		info, err := d.files().Lstat(d.Path)
		switch {
		case gone(err):
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%s is %s", d.Path, info.What())
		default:
			// All that was kept follows to the new account, whose number may
			// be another one.
			if err := d.files().GiveTree(d.Path, want); err != nil {
				return err
			}
		}
		d.mem.Kept = false
	}
	return d.files().MakeDir(d.Path, want)
}

// Verify implements plan.Step.
func (d *Dir) Verify(ctx context.Context) error {
	want, err := d.owner(ctx, d.User, d.Group, d.Mode)
	if err != nil {
		return err
	}
	return verifyDir(d.files(), d.Path, want)
}

func verifyDir(f *platform.Files, path string, want platform.Owner) error {
	if err := f.CheckParents(path); err != nil {
		return err
	}
	info, err := f.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is %s", path, info.What())
	case info.Owner() != want:
		return fmt.Errorf("%s is %v and not %v", path, info.Owner(), want)
	}
	return nil
}

// Keep implements plan.Keeper.
func (d *Dir) Keep(context.Context) (string, error) {
	if !d.Kept || d.mem.Was != nil {
		return "", nil
	}
	info, err := d.files().Lstat(d.Path)
	if gone(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is %s", d.Path, info.What())
	}
	names, err := d.files().Entries(d.Path)
	if err != nil || len(names) == 0 {
		return "", err
	}
	d.mem.Kept = true
	return d.Path, d.files().GiveTree(d.Path, platform.Owner{Mode: 0o700})
}

// Revert implements plan.Step.
func (d *Dir) Revert(ctx context.Context) error {
	info, err := d.files().Lstat(d.Path)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is %s and not the folder we made", d.Path, info.What())
	}
	if d.mem.Was != nil {
		want, err := d.owner(ctx, d.User, d.Group, d.Mode)
		if err != nil {
			return err
		}
		was := d.mem.Was.owner()
		switch info.Owner() {
		case was:
			return nil
		case want:
			return d.files().SetOwner(d.Path, was)
		}
		return fmt.Errorf("%s is %v: somebody changed it since it became %v", d.Path, info.Owner(), want)
	}
	if d.Tree || d.Kept {
		return d.files().RemoveTree(d.Path)
	}
	return d.files().RemoveDir(d.Path)
}
