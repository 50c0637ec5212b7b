package step

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// File is a file with its content, owner and mode. The content is either in
// the step or in a source that must still have its hash when it is copied.
type File struct {
	Path    string `json:"path"`
	User    string `json:"user"`
	Group   string `json:"group"`
	Mode    Mode   `json:"mode"`
	Content string `json:"content,omitempty"`
	SHA256  string `json:"sha256,omitempty"` // of Source; instead of Content
	// Source is where a copy is made from. It is not data: the same program
	// from another folder is the same program, and an undoing needs no source.
	Source string `json:"-"`
	Hint   string `json:"-"` // what to do when there is no such source
	// Edited says that a person may change the content: then it is never
	// written over, and uninstall keeps it unless it purges.
	Edited  bool   `json:"edited,omitempty"`
	Purpose string `json:"-"`

	machine
	mem fileMemory
}

type fileMemory struct {
	Wrote []string `json:"wrote,omitempty"` // hashes of what we put there, newest last
	Was   *owned   `json:"was,omitempty"`   // owner before we altered it; the content was not ours
	Kept  bool     `json:"kept,omitempty"`
}

// Kind implements plan.Step.
func (*File) Kind() string { return "file" }

// Key implements plan.Step.
func (f *File) Key() string { return f.Path }

// Title implements plan.Step.
func (f *File) Title() string { return "write " + f.Path }

// Detail implements plan.Describer.
func (f *File) Detail() string {
	d := fmt.Sprintf("%s:%s %s, sha256 %.12s", f.User, f.Group, f.Mode, f.sum())
	if f.Source != "" {
		d += ", from " + f.Source
	}
	return d
}

// Why implements plan.Describer.
func (f *File) Why() string { return f.Purpose }

// Memory implements plan.Rememberer.
func (f *File) Memory() any { return f.mem }

// Recall implements plan.Rememberer.
func (f *File) Recall(data json.RawMessage) error { return f.recallInto(data, &f.mem) }

func (f *File) sum() string {
	if f.SHA256 != "" {
		return f.SHA256
	}
	s := sha256.Sum256([]byte(f.Content))
	return hex.EncodeToString(s[:])
}

// Plan implements plan.Step.
func (f *File) Plan(ctx context.Context) (plan.Change, error) {
	if f.Source != "" && !f.files().Paper {
		if _, err := f.files().Lstat(f.Source); err != nil {
			return "", plan.WithHint(err, f.Hint)
		}
	}
	if err := f.parents(f.Path); err != nil {
		return "", err
	}
	info, err := f.files().Lstat(f.Path)
	if gone(err) {
		return plan.Make, nil
	}
	if err != nil {
		return "", err
	}
	if !info.IsRegular() {
		return "", plan.WithHint(fmt.Errorf("%s is %s", f.Path, info.What()), "move it away")
	}
	if f.recalled {
		return plan.Make, nil
	}
	have, err := f.files().Hash(f.Path)
	if err != nil {
		return "", err
	}
	switch {
	case have != f.sum() && !f.Edited:
		return "", plan.WithHint(fmt.Errorf("%s exists, has another content and was not written by carapace-setup", f.Path),
			"move it away")
	case !info.RootOnly() || info.Nlink != 1:
		return "", plan.WithHint(fmt.Errorf("%s exists, is %v and has %d names: others than root could have written it", f.Path, info.Owner(), info.Nlink),
			"read it, then move it away")
	}
	want, known, err := f.ownerYet(ctx, f.User, f.Group, f.Mode)
	if err != nil {
		return "", err
	}
	if known && info.Owner() == want {
		return plan.Adopt, nil
	}
	f.mem.Was = ownedOf(info.Owner())
	return plan.Alter, nil
}

// Prepare implements plan.Preparer: the hash of what will be written is on
// disk before it is.
func (f *File) Prepare(context.Context) error {
	if f.mem.Was == nil {
		f.mem.Wrote = addSum(f.mem.Wrote, f.sum())
	}
	return nil
}

// edited reports whether a person's words are in the file.
func (f *File) edited() (bool, error) {
	if !f.Edited {
		return false, nil
	}
	have, err := f.files().Hash(f.Path)
	if gone(err) {
		return false, nil
	}
	return err == nil && !slices.Contains(f.mem.Wrote, have), err
}

// Note says what the plan of an installed file leaves alone.
func (f *File) Note(context.Context) string {
	if f.recalled || f.Edited {
		if edited, err := f.edited(); err == nil && edited {
			return f.Path + " was written or changed by a person: it is kept as it is, and the answers are not put into it"
		}
	}
	return ""
}

// Apply implements plan.Step.
func (f *File) Apply(ctx context.Context) error {
	want, err := f.owner(ctx, f.User, f.Group, f.Mode)
	if err != nil {
		return err
	}
	have, err := f.files().Hash(f.Path)
	switch {
	case gone(err):
		return f.write(want)
	case err != nil:
		return err
	}
	edited, err := f.edited()
	if err != nil {
		return err
	}
	if edited || f.mem.Was != nil {
		f.mem.Kept = false
		return f.files().SetOwner(f.Path, want)
	}
	if have == f.sum() {
		if info, err := f.files().Lstat(f.Path); err == nil && info.Owner() == want {
			return nil
		}
	} else if !f.recalled && !slices.Contains(f.mem.Wrote, have) {
		return fmt.Errorf("%s appeared while we were at work", f.Path)
	}
	return f.write(want)
}

func (f *File) write(want platform.Owner) error {
	var from io.Reader = bytes.NewReader([]byte(f.Content))
	if f.SHA256 != "" {
		if f.Source == "" {
			return plan.WithHint(fmt.Errorf("where %s comes from is not known", f.Path), "run carapace-setup from the folder of the release")
		}
		h, _, err := f.files().ReadAs(f.Source)
		if err != nil {
			return err
		}
		defer h.Close()
		from = h
	}
	_, err := f.files().Write(f.Path, from, want, func(_, sum string) error {
		if sum != f.sum() {
			return fmt.Errorf("%s changed while we were at work: its copy has sha256 %s, it was to have %s", f.Source, sum, f.sum())
		}
		return nil
	})
	return err
}

// Verify implements plan.Step.
func (f *File) Verify(ctx context.Context) error {
	want, err := f.owner(ctx, f.User, f.Group, f.Mode)
	if err != nil {
		return err
	}
	if err := f.files().CheckParents(f.Path); err != nil {
		return err
	}
	info, err := f.files().Lstat(f.Path)
	switch {
	case err != nil:
		return err
	case !info.IsRegular():
		return fmt.Errorf("%s is %s", f.Path, info.What())
	case info.Owner() != want:
		return fmt.Errorf("%s is %v and not %v", f.Path, info.Owner(), want)
	}
	have, err := f.files().Hash(f.Path)
	if err != nil {
		return err
	}
	edited, err := f.edited()
	if err == nil && have != f.sum() && !edited {
		err = fmt.Errorf("%s has sha256 %s and not %s", f.Path, have, f.sum())
	}
	return err
}

// Keep implements plan.Keeper.
func (f *File) Keep(context.Context) (string, error) {
	edited, err := f.edited()
	if err != nil || !edited || f.mem.Was != nil {
		return "", err
	}
	f.mem.Kept = true
	return f.Path, f.files().SetOwner(f.Path, platform.Owner{Mode: 0o600})
}

// Revert implements plan.Step.
func (f *File) Revert(ctx context.Context) error {
	info, err := f.files().Lstat(f.Path)
	if gone(err) {
		return f.files().Remove(f.Path) // and what a kill left beside it
	}
	if err != nil {
		return err
	}
	if !info.IsRegular() {
		return fmt.Errorf("%s is %s and not the file we wrote", f.Path, info.What())
	}
	if f.mem.Was != nil {
		want, err := f.owner(ctx, f.User, f.Group, f.Mode)
		if err != nil {
			return err
		}
		was := f.mem.Was.owner()
		switch info.Owner() {
		case was:
			return nil
		case want:
			return f.files().SetOwner(f.Path, was)
		}
		return fmt.Errorf("%s is %v: somebody changed it since it became %v", f.Path, info.Owner(), want)
	}
	have, err := f.files().Hash(f.Path)
	if err != nil {
		return err
	}
	if !slices.Contains(f.mem.Wrote, have) && !f.Edited {
		return plan.WithHint(fmt.Errorf("%s has a content that is not ours: left", f.Path), "remove it by hand: "+f.Path)
	}
	return f.files().Remove(f.Path)
}
