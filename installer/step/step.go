// Package step holds the single things that an installation is made of, one
// kind a file: a group, a user, a member, a folder, a file, a link, a client's
// spool, a tool in the vault, a service. Each knows how to find out what is
// there, to make it so, to prove that it is so, and to take it back.
//
// It promises that taking back is done on proof: a file by its hash, an account
// by its uid and its marker, a folder because the receipt says that we made it
// and it is empty or was declared all ours. A name alone proves nothing.
//
// It refuses to put anything in place of what it did not make, and to keep
// anything in a process that must outlive it: what a step learns is its memory,
// and the receipt has it before the first touch.
package step

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Mode is the low twelve bits of a file's mode; in a receipt it is octal text,
// as people write it.
type Mode uint32

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || n > 0o7777 {
		return fmt.Errorf("mode %q: want four octal digits", text)
	}
	*m = Mode(n)
	return nil
}

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// owned is an owner as a receipt keeps it: by number, because the names may be
// gone when it is needed.
type owned struct {
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Mode Mode   `json:"mode"`
}

func ownedOf(o platform.Owner) *owned {
	return &owned{UID: o.UID, GID: o.GID, Mode: Mode(o.Mode)}
}

func (o owned) owner() platform.Owner {
	return platform.Owner{UID: o.UID, GID: o.GID, Mode: uint32(o.Mode)}
}

// machine is what every step has beside its data: the system it works on.
type machine struct {
	sys platform.Platform
	// recalled is set once the receipt has given the step its memory: the
	// object, whatever it looks like now, was made or altered by us.
	recalled bool
}

func (m *machine) bind(p platform.Platform) { m.sys = p }

func (m *machine) files() *platform.Files { return m.sys.Files() }

type binder interface{ bind(platform.Platform) }

// On gives steps the system they work on.
func On(p platform.Platform, steps ...plan.Step) []plan.Step {
	for _, s := range steps {
		s.(binder).bind(p)
	}
	return steps
}

// parents checks, for a plan, the folders above something. Of what is ours they
// are ours too, and their own steps set them right before it is touched.
func (m *machine) parents(path string) error {
	err := m.files().CheckParents(path)
	if _, ok := errors.AsType[*platform.ParentError](err); ok && m.recalled {
		return nil
	}
	return err
}

// recallInto reads a memory strictly: a receipt of another program is refused,
// not half understood.
func (m *machine) recallInto(data json.RawMessage, into any) error {
	if err := strict(data, into); err != nil {
		return fmt.Errorf("its memory: %w", err)
	}
	m.recalled = true
	return nil
}

func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("data after its end")
	}
	return nil
}

// uid resolves a user's name; root is root on every system.
func (m *machine) uid(ctx context.Context, name string) (uint32, error) {
	if name == "root" {
		return 0, nil
	}
	u, err := m.sys.User(ctx, name)
	return u.UID, err
}

// gid resolves a group's name; "root" is the group of root, whatever it is
// called there.
func (m *machine) gid(ctx context.Context, name string) (uint32, error) {
	if name == "root" {
		return 0, nil
	}
	g, err := m.sys.Group(ctx, name)
	return g.GID, err
}

func (m *machine) owner(ctx context.Context, user, group string, mode Mode) (platform.Owner, error) {
	uid, err := m.uid(ctx, user)
	if err != nil {
		return platform.Owner{}, err
	}
	gid, err := m.gid(ctx, group)
	if err != nil {
		return platform.Owner{}, err
	}
	return platform.Owner{UID: uid, GID: gid, Mode: uint32(mode)}, nil
}

// ownerYet is owner for a plan: accounts that an earlier step will make cannot
// own anything yet.
func (m *machine) ownerYet(ctx context.Context, user, group string, mode Mode) (o platform.Owner, known bool, err error) {
	o, err = m.owner(ctx, user, group, mode)
	if errors.Is(err, platform.ErrNotFound) {
		return o, false, nil
	}
	return o, err == nil, err
}

// again turns the loss of an id into another round of Prepare and Apply.
func again(err error) error {
	if errors.Is(err, platform.ErrTaken) {
		return fmt.Errorf("%w: %w", plan.ErrAgain, err)
	}
	return err
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// addSum keeps the last few hashes that we wrote at one place, newest last.
func addSum(sums []string, sum string) []string {
	sums = slices.DeleteFunc(slices.Clone(sums), func(s string) bool { return s == sum })
	sums = append(sums, sum)
	if len(sums) > 8 {
		sums = sums[len(sums)-8:]
	}
	return sums
}
