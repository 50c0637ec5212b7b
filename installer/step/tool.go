package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Tool is a real tool copied into the vault, root's alone. Run where it was
// found it could be code of the agent's choice, run as the service user; so
// what is judged and what is run is the copy.
type Tool struct {
	Name    string `json:"name"`
	Source  string `json:"source"`
	Path    string `json:"path"`             // in the vault
	SHA256  string `json:"sha256,omitempty"` // that a person expects; empty: none given
	Purpose string `json:"-"`

	machine
	mem toolMemory
}

type toolMemory struct {
	Sums []string `json:"sums,omitempty"` // of the copies, newest last
}

// ErrOrigin says that a tool comes from where others than root can write and
// that nobody answered for it.
var ErrOrigin = errors.New("others than root can write there")

// Kind implements plan.Step.
func (*Tool) Kind() string { return "tool" }

// Key implements plan.Step.
func (t *Tool) Key() string { return t.Name }

// Title implements plan.Step.
func (t *Tool) Title() string { return fmt.Sprintf("import %s from %s", t.Name, t.Source) }

// Detail implements plan.Describer.
func (t *Tool) Detail() string { return "copied to " + t.Path + ", root:root 0755" }

// Why implements plan.Describer.
func (t *Tool) Why() string { return t.Purpose }

// Memory implements plan.Rememberer.
func (t *Tool) Memory() any { return t.mem }

// Recall implements plan.Rememberer.
func (t *Tool) Recall(data json.RawMessage) error { return t.recallInto(data, &t.mem) }

// Sum is the hash of the copy in the vault, once there is one.
func (t *Tool) Sum() string {
	if len(t.mem.Sums) == 0 {
		return ""
	}
	return t.mem.Sums[len(t.mem.Sums)-1]
}

// CheckOrigin looks at where a tool would come from: a file that can be run,
// by an absolute path, links resolved. Its error wraps ErrOrigin when the only
// objection is who can write it.
func CheckOrigin(f *platform.Files, source string) (real string, err error) {
	if !filepath.IsAbs(source) {
		return "", fmt.Errorf("%s: not an absolute path", source)
	}
	if f.Paper {
		return source, nil
	}
	// Homebrew and /usr/bin are full of links; what they lead to is copied.
	real, err = filepath.EvalSymlinks(source)
	if err != nil {
		return "", err
	}
	info, err := f.Lstat(real)
	switch {
	case err != nil:
		return "", err
	case !info.IsRegular():
		return "", fmt.Errorf("%s is %s", real, info.What())
	case info.Mode&0o111 == 0:
		return "", fmt.Errorf("%s cannot be run (mode %04o)", real, info.Mode)
	case info.Mode&0o6000 != 0:
		return "", fmt.Errorf("%s has set-id bits (mode %04o)", real, info.Mode)
	}
	if err := notScript(real, source); err != nil {
		return "", err
	}
	if !info.RootOnly() {
		return real, fmt.Errorf("%s belongs to uid %d and has mode %04o: %w", real, info.UID, info.Mode, ErrOrigin)
	}
	for _, name := range []string{source, real} {
		if err := f.CheckParents(name); err != nil {
			return real, fmt.Errorf("%w: %w", err, ErrOrigin)
		}
	}
	return real, nil
}

// notScript refuses a script: its interpreter, and whatever it loads, would be
// judged by nobody and could be anybody's to write.
func notScript(file, called string) error {
	head, err := platform.Head(file, 2)
	if err == nil && string(head) == "#!" {
		err = plan.WithHint(fmt.Errorf("%s is a script: what it runs is not in the vault", called), "import the program that it starts")
	}
	return err
}

// Plan implements plan.Step.
func (t *Tool) Plan(context.Context) (plan.Change, error) {
	if err := t.parents(t.Path); err != nil {
		return "", err
	}
	info, err := t.files().Lstat(t.Path)
	switch {
	case err == nil && !info.IsRegular():
		return "", plan.WithHint(fmt.Errorf("%s is %s", t.Path, info.What()), "move it away")
	case err == nil && t.recalled && t.intact() == nil:
		return plan.Make, nil // the source may be gone by now
	case err == nil && !t.recalled:
		return "", plan.WithHint(fmt.Errorf("%s exists and was not imported by carapace-setup", t.Path), "move it away")
	case err != nil && !gone(err):
		return "", err
	}
	_, err = CheckOrigin(t.files(), t.Source)
	switch {
	case err == nil:
	case errors.Is(err, ErrOrigin) && t.SHA256 != "":
	case errors.Is(err, ErrOrigin):
		return "", plan.WithHint(fmt.Errorf("%s: %w", t.Name, err),
			"say which file you mean: --sha256 H, or sha256: beside tool: in the answers",
			"or answer for it at a terminal, without --yes")
	default:
		return "", fmt.Errorf("%s: %w", t.Name, err)
	}
	return plan.Make, nil
}

// intact reports what is wrong with the copy in the vault.
func (t *Tool) intact() error {
	have, err := t.files().Hash(t.Path)
	switch {
	case err != nil:
		return err
	case t.SHA256 != "" && have != t.SHA256:
		return fmt.Errorf("%s has sha256 %s and not %s", t.Path, have, t.SHA256)
	case !slices.Contains(t.mem.Sums, have):
		return fmt.Errorf("%s has sha256 %s, which is not what was imported", t.Path, have)
	}
	return nil
}

// Prepare implements plan.Preparer. The hash is written down before the copy is
// put in place; the copy must still have it.
func (t *Tool) Prepare(context.Context) error {
	if t.intact() == nil {
		return nil
	}
	h, err := t.open()
	if err != nil {
		return err
	}
	defer h.Close()
	sum, err := platform.Sum(h)
	if err != nil {
		return err
	}
	if t.SHA256 != "" && sum != t.SHA256 {
		return plan.WithHint(fmt.Errorf("%s has sha256 %s and not %s", t.Source, sum, t.SHA256), "nothing was imported")
	}
	t.mem.Sums = addSum(t.mem.Sums, sum)
	return nil
}

func (t *Tool) open() (interface {
	Read([]byte) (int, error)
	Close() error
}, error) {
	real, err := CheckOrigin(t.files(), t.Source)
	if err != nil && !errors.Is(err, ErrOrigin) {
		return nil, err
	}
	h, info, err := t.files().ReadAs(real)
	if err != nil {
		return nil, err
	}
	const most = 1 << 30
	if info.Size > most {
		h.Close()
		return nil, fmt.Errorf("%s is larger than %d bytes", real, most)
	}
	return h, nil
}

// Apply implements plan.Step.
func (t *Tool) Apply(context.Context) error {
	if t.intact() == nil {
		return t.files().SetOwner(t.Path, platform.Owner{Mode: 0o755})
	}
	h, err := t.open()
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = t.files().Write(t.Path, h, platform.Owner{Mode: 0o755}, func(staged, sum string) error {
		if sum != t.Sum() {
			return fmt.Errorf("%s changed while it was copied: sha256 %s, it was %s", t.Source, sum, t.Sum())
		}
		return notScript(staged, t.Source)
	})
	return err
}

// Verify implements plan.Step.
func (t *Tool) Verify(context.Context) error {
	if err := t.files().CheckParents(t.Path); err != nil {
		return err
	}
	info, err := t.files().Lstat(t.Path)
	if err != nil {
		return err
	}
	if want := (platform.Owner{Mode: 0o755}); !info.IsRegular() || info.Owner() != want {
		return fmt.Errorf("%s is %v and not %v", t.Path, info.Owner(), want)
	}
	return t.intact()
}

// Revert implements plan.Step.
func (t *Tool) Revert(context.Context) error {
	info, err := t.files().Lstat(t.Path)
	if gone(err) {
		return t.files().Remove(t.Path)
	}
	if err != nil {
		return err
	}
	have, err := t.files().Hash(t.Path)
	if err != nil {
		return err
	}
	if !info.IsRegular() || !slices.Contains(t.mem.Sums, have) {
		return plan.WithHint(fmt.Errorf("%s is not what was imported: left", t.Path), "remove it by hand: "+t.Path)
	}
	return t.files().Remove(t.Path)
}
