package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// User is the service account: no password, no shell, a primary group of its
// own. Its uid is chosen before it is made; uid and marker together are the
// proof that it is ours.
type User struct {
	Name    string `json:"name"`
	Group   string `json:"group"` // its own primary group
	Home    string `json:"home"`  // made by a step of its own
	Shell   string `json:"shell"`
	Prefix  string `json:"prefix"` // what runs from here as this user is the gateway
	Purpose string `json:"-"`

	// Of an account that is there already: may it be used, who must it not
	// be, and which group may it be in beside its own. For the plan alone.
	Adopt    bool     `json:"-"`
	Clients  []string `json:"-"`
	MayBeIn  []string `json:"-"`
	CronDirs []string `json:"-"` // where jobs of users are kept, by name

	machine
	mem userMemory
}

type userMemory struct {
	UID       uint32 `json:"uid"`
	KeepGroup bool   `json:"keep_group,omitempty"` // the primary group was there before us
}

// Kind implements plan.Step.
func (*User) Kind() string { return "user" }

// Key implements plan.Step.
func (u *User) Key() string { return u.Name }

// Title implements plan.Step.
func (u *User) Title() string { return "create user " + u.Name }

// Detail implements plan.Describer.
func (u *User) Detail() string {
	return fmt.Sprintf("a system account of group %s, home %s, shell %s, no password", u.Group, u.Home, u.Shell)
}

// Why implements plan.Describer.
func (u *User) Why() string { return u.Purpose }

// Memory implements plan.Rememberer.
func (u *User) Memory() any { return u.mem }

// Recall implements plan.Rememberer.
func (u *User) Recall(data json.RawMessage) error { return u.recallInto(data, &u.mem) }

// Plan implements plan.Step.
func (u *User) Plan(ctx context.Context) (plan.Change, error) {
	have, err := u.sys.User(ctx, u.Name)
	if errors.Is(err, platform.ErrNotFound) {
		if !u.recalled {
			_, err := u.sys.Group(ctx, u.Group)
			u.mem.KeepGroup = err == nil
		}
		return plan.Make, nil
	}
	if err != nil {
		return "", err
	}
	if u.recalled {
		return plan.Make, u.check(have)
	}
	differs, err := u.differs(ctx, have)
	switch {
	case err != nil:
		return "", err
	case len(differs) > 0:
		return "", plan.WithHint(fmt.Errorf("user %s exists and cannot be the service user: %s", u.Name, strings.Join(differs, "; ")),
			"change that, or choose another name in the answers file (service_user)")
	case !u.Adopt:
		return "", plan.WithHint(fmt.Errorf("user %s exists and was not made by carapace-setup", u.Name),
			"it passes every check and can be used as it is: --adopt")
	}
	return plan.Adopt, nil
}

// differs is the checklist for an account that somebody else made: everything
// through which somebody else could still be it.
func (u *User) differs(ctx context.Context, have platform.User) ([]string, error) {
	var d []string
	add := func(format string, args ...any) { d = append(d, fmt.Sprintf(format, args...)) }
	if have.UID == 0 {
		add("its uid is 0")
		return d, nil
	}
	if slices.Contains(u.Clients, u.Name) {
		add("it is also a client")
	}
	if have.Home != u.Home {
		add("its home is %s and not %s", have.Home, u.Home)
	}
	if have.Shell != u.Shell {
		add("its shell is %s and not %s", have.Shell, u.Shell)
	}
	group, err := u.sys.GroupByID(ctx, have.GID)
	switch {
	case errors.Is(err, platform.ErrNotFound):
		add("its primary group %d does not exist", have.GID)
	case err != nil:
		return nil, err
	case group.Name != u.Group:
		add("its primary group is %s and not %s", group.Name, u.Group)
	}
	sharers, err := u.sys.Sharers(ctx, have.GID)
	if err != nil {
		return nil, err
	}
	for _, s := range sharers {
		if s != u.Name {
			add("%s has the same primary group", s)
		}
	}
	groups, err := u.sys.GroupsOf(ctx, u.Name)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if g != group.Name && !slices.Contains(u.MayBeIn, g) {
			add("it is in group %s", g)
		}
	}
	locked, err := u.sys.Locked(ctx, u.Name)
	if err != nil {
		return nil, err
	}
	if !locked {
		add("a password lets people in as it")
	}
	other, err := u.sys.UserByID(ctx, have.UID)
	if err == nil && other.Name != u.Name {
		add("it shares uid %d with %s", have.UID, other.Name)
	}
	_, foreign, err := u.running(ctx, have.UID)
	if err != nil {
		return nil, err
	}
	for _, p := range foreign {
		add("process %d (%s) runs as it", p.PID, p.Name)
	}
	for _, dir := range u.CronDirs {
		if _, err := u.files().Lstat(filepath.Join(dir, u.Name)); err == nil {
			add("it has jobs in %s", dir)
		}
	}
	if _, err := u.files().Lstat(filepath.Join(have.Home, ".ssh")); err == nil {
		add("it has keys in %s", filepath.Join(have.Home, ".ssh"))
	}
	return d, nil
}

func (u *User) running(ctx context.Context, uid uint32) (ours, foreign []platform.Process, err error) {
	all, err := u.sys.Processes().Of(ctx, uid)
	if err != nil {
		return nil, nil, err
	}
	ours, foreign = platform.Ours(all, u.Prefix)
	return ours, foreign, nil
}

// Prepare implements plan.Preparer.
func (u *User) Prepare(ctx context.Context) error {
	have, err := u.sys.User(ctx, u.Name)
	if err == nil {
		if u.mem.UID == 0 {
			u.mem.UID = have.UID
		}
		return nil
	}
	if !errors.Is(err, platform.ErrNotFound) {
		return err
	}
	if u.mem.UID != 0 {
		if _, err := u.sys.UserByID(ctx, u.mem.UID); errors.Is(err, platform.ErrNotFound) {
			return nil
		}
	}
	u.mem.UID, err = u.sys.FreeUID(ctx)
	return err
}

// Apply implements plan.Step.
func (u *User) Apply(ctx context.Context) error {
	have, err := u.sys.User(ctx, u.Name)
	if err == nil {
		return u.check(have)
	}
	if !errors.Is(err, platform.ErrNotFound) {
		return err
	}
	if other, err := u.sys.UserByID(ctx, u.mem.UID); err == nil {
		return fmt.Errorf("uid %d was given to user %s meanwhile: %w", u.mem.UID, other.Name, plan.ErrAgain)
	}
	gid, err := u.gid(ctx, u.Group)
	if err != nil {
		return err
	}
	return again(u.sys.CreateUser(ctx, platform.User{
		Name: u.Name, UID: u.mem.UID, GID: gid, Gecos: platform.Marker, Home: u.Home, Shell: u.Shell,
	}))
}

// check holds an account against the proof that we made it.
func (u *User) check(have platform.User) error {
	switch {
	case have.UID != u.mem.UID:
		return fmt.Errorf("user %s has uid %d, the receipt says %d: it is not the one we made", u.Name, have.UID, u.mem.UID)
	case have.Gecos != platform.Marker:
		return fmt.Errorf("user %s is described as %q and not as %q: it is not the one we made", u.Name, have.Gecos, platform.Marker)
	}
	return nil
}

// Verify implements plan.Step.
func (u *User) Verify(ctx context.Context) error {
	have, err := u.sys.User(ctx, u.Name)
	if err != nil {
		return err
	}
	gid, err := u.gid(ctx, u.Group)
	if err != nil {
		return err
	}
	switch {
	case have.UID != u.mem.UID:
		return fmt.Errorf("user %s has uid %d and not %d", u.Name, have.UID, u.mem.UID)
	case have.GID != gid:
		return fmt.Errorf("the primary group of %s is %d and not %s (%d)", u.Name, have.GID, u.Group, gid)
	case have.Home != u.Home || have.Shell != u.Shell:
		return fmt.Errorf("user %s has home %s and shell %s", u.Name, have.Home, have.Shell)
	}
	locked, err := u.sys.Locked(ctx, u.Name)
	if err == nil && !locked {
		err = fmt.Errorf("a password lets people in as %s", u.Name)
	}
	return err
}

// Blocked implements plan.Blocker: what runs as the service user and is not the
// gateway is somebody's work, and nobody but that somebody ends it.
func (u *User) Blocked(ctx context.Context) error {
	have, err := u.sys.User(ctx, u.Name)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if have.UID != u.mem.UID {
		return nil // Revert will say so, and touch nothing
	}
	_, foreign, err := u.running(ctx, have.UID)
	if err != nil || len(foreign) == 0 {
		return err
	}
	var names []string
	for _, p := range foreign {
		names = append(names, fmt.Sprintf("%d (%s)", p.PID, p.Name))
	}
	return plan.WithHint(fmt.Errorf("processes that are not the gateway run as %s: %s", u.Name, strings.Join(names, ", ")),
		"end them, then run carapace-setup uninstall again")
}

// Revert implements plan.Step.
func (u *User) Revert(ctx context.Context) error {
	have, err := u.sys.User(ctx, u.Name)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := u.check(have); err != nil {
		return err
	}
	ours, _, err := u.running(ctx, have.UID)
	if err != nil {
		return err
	}
	for _, p := range ours {
		if err := u.sys.Processes().Terminate(ctx, p); err != nil {
			return err
		}
	}
	if err := u.Blocked(ctx); err != nil {
		return err
	}
	return u.sys.DeleteUser(ctx, u.Name, u.mem.KeepGroup)
}
