package platform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The administration commands by the places they have on
// Debian, Ubuntu, Fedora, Arch and SUSE. Each was checked against the manual
// page of shadow 4.13 and systemd 252.
const (
	getent    = "/usr/bin/getent"
	idCommand = "/usr/bin/id"
	passwd    = "/usr/bin/passwd"
	gpasswd   = "/usr/bin/gpasswd"
	useradd   = "/usr/sbin/useradd"
	userdel   = "/usr/sbin/userdel"
	groupadd  = "/usr/sbin/groupadd"
	groupdel  = "/usr/sbin/groupdel"
)

// LinuxHost is a Linux system with the shadow suite and, perhaps, systemd.
type LinuxHost struct {
	Where Paths
	Run   *Runner
	FS    *Files
	PS    Processes
	// Systemctl and SystemdFlag are where systemd's command is and what exists
	// while systemd runs; empty: /usr/bin/systemctl and /run/systemd/system.
	Systemctl   string
	SystemdFlag string
	// LoginDefs is where the ranges of ids are; empty: /etc/login.defs.
	LoginDefs string
	// OnPaper is set where the plan of a Linux system is printed on another
	// one: nothing is looked up then, and nothing exists.
	OnPaper bool
}

var _ Platform = (*LinuxHost)(nil)

// NewLinux returns the running Linux system. mutated is called after each
// change; it is nil outside tests.
func NewLinux(where Paths, mutated func(string)) *LinuxHost {
	return &LinuxHost{
		Where: where,
		Run:   &Runner{Mutated: mutated},
		FS:    &Files{Mutated: mutated},
		PS:    &Proc{Dir: "/proc", Mutated: mutated},
	}
}

// OS implements Platform.
func (l *LinuxHost) OS() string { return Linux }

// Paths implements Platform.
func (l *LinuxHost) Paths() Paths { return l.Where }

// Paper implements Platform.
func (l *LinuxHost) Paper() bool { return l.OnPaper }

// Files implements Platform.
func (l *LinuxHost) Files() *Files { return l.FS }

// Processes implements Platform.
func (l *LinuxHost) Processes() Processes { return l.PS }

// Missing names the commands that are needed and not there.
func (l *LinuxHost) Missing() []string {
	var missing []string
	for _, c := range []string{getent, idCommand, passwd, gpasswd, useradd, userdel, groupadd, groupdel} {
		if info, err := os.Stat(c); err != nil || info.Mode()&0o111 == 0 {
			missing = append(missing, c)
		}
	}
	return missing
}

// lookup runs getent; code 2 is "not found" (getent(1)).
func (l *LinuxHost) lookup(ctx context.Context, db, what, key string) (string, error) {
	if key == "" || strings.HasPrefix(key, "-") || strings.ContainsAny(key, ":\n\x00") {
		return "", fmt.Errorf("%s name %q: not a name", what, key)
	}
	if l.OnPaper {
		return "", notFound(what, key)
	}
	res, err := l.Run.Read(ctx, getent, db, key)
	switch {
	case err != nil:
		return "", fmt.Errorf("look up %s %s: %w", what, key, err)
	case res.Exit == 2:
		return "", notFound(what, key)
	case res.Exit != 0:
		return "", fmt.Errorf("look up %s %s: %w", what, key, &CommandError{Name: "getent", Exit: res.Exit, Line: lastLine(res)})
	}
	line, _, _ := strings.Cut(res.Stdout, "\n")
	return line, nil
}

func parseUser(line string) (User, error) {
	f := strings.Split(line, ":")
	if len(f) < 7 {
		return User{}, fmt.Errorf("user entry %q: want seven fields", printable(line))
	}
	uid, err := strconv.ParseUint(f[2], 10, 32)
	if err != nil {
		return User{}, fmt.Errorf("user %s: uid %q", f[0], f[2])
	}
	gid, err := strconv.ParseUint(f[3], 10, 32)
	if err != nil {
		return User{}, fmt.Errorf("user %s: gid %q", f[0], f[3])
	}
	return User{Name: f[0], UID: uint32(uid), GID: uint32(gid), Gecos: f[4], Home: f[5], Shell: f[6]}, nil
}

func parseGroup(line string) (Group, error) {
	f := strings.Split(line, ":")
	if len(f) < 4 {
		return Group{}, fmt.Errorf("group entry %q: want four fields", printable(line))
	}
	gid, err := strconv.ParseUint(f[2], 10, 32)
	if err != nil {
		return Group{}, fmt.Errorf("group %s: gid %q", f[0], f[2])
	}
	g := Group{Name: f[0], GID: uint32(gid)}
	for _, m := range strings.Split(strings.TrimSpace(f[3]), ",") {
		if m != "" {
			g.Members = append(g.Members, m)
		}
	}
	return g, nil
}

// User implements Accounts.
func (l *LinuxHost) User(ctx context.Context, name string) (User, error) {
	line, err := l.lookup(ctx, "passwd", "user", name)
	if err != nil {
		return User{}, err
	}
	u, err := parseUser(line)
	if err == nil && u.Name != name {
		return User{}, notFound("user", name) // getent takes a number for an id
	}
	return u, err
}

// UserByID implements Accounts.
func (l *LinuxHost) UserByID(ctx context.Context, uid uint32) (User, error) {
	line, err := l.lookup(ctx, "passwd", "user", strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return User{}, err
	}
	return parseUser(line)
}

// Group implements Accounts.
func (l *LinuxHost) Group(ctx context.Context, name string) (Group, error) {
	line, err := l.lookup(ctx, "group", "group", name)
	if err != nil {
		return Group{}, err
	}
	g, err := parseGroup(line)
	if err == nil && g.Name != name {
		return Group{}, notFound("group", name)
	}
	return g, err
}

// GroupByID implements Accounts.
func (l *LinuxHost) GroupByID(ctx context.Context, gid uint32) (Group, error) {
	line, err := l.lookup(ctx, "group", "group", strconv.FormatUint(uint64(gid), 10))
	if err != nil {
		return Group{}, err
	}
	return parseGroup(line)
}

// GroupsOf implements Accounts.
func (l *LinuxHost) GroupsOf(ctx context.Context, name string) ([]string, error) {
	if _, err := l.User(ctx, name); err != nil {
		return nil, err
	}
	// By number: the names that a directory service gives can hold spaces.
	res, err := l.Run.Read(ctx, idCommand, "-G", "--", name)
	if err == nil && res.Exit != 0 {
		err = &CommandError{Name: "id", Exit: res.Exit, Line: lastLine(res)}
	}
	if err != nil {
		return nil, fmt.Errorf("groups of %s: %w", name, err)
	}
	var names []string
	for _, text := range strings.Fields(res.Stdout) {
		gid, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("groups of %s: id said %q", name, printable(text))
		}
		g, err := l.GroupByID(ctx, uint32(gid))
		if err != nil {
			return nil, fmt.Errorf("groups of %s: %w", name, err)
		}
		names = append(names, g.Name)
	}
	return names, nil
}

func (l *LinuxHost) users(ctx context.Context) ([]User, error) {
	res, err := l.Run.Read(ctx, getent, "passwd")
	if err == nil && res.Exit != 0 {
		err = &CommandError{Name: "getent", Exit: res.Exit, Line: lastLine(res)}
	}
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	var all []User
	for _, line := range strings.Split(strings.TrimSpace(res.Stdout), "\n") {
		u, err := parseUser(line)
		if err != nil {
			continue // NIS markers ("+::::::") are no users
		}
		all = append(all, u)
	}
	return all, nil
}

// Sharers implements Accounts.
func (l *LinuxHost) Sharers(ctx context.Context, gid uint32) ([]string, error) {
	all, err := l.users(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, u := range all {
		if u.GID == gid {
			names = append(names, u.Name)
		}
	}
	return names, nil
}

// loginDef reads one number of login.defs; fallback when it is not set.
func (l *LinuxHost) loginDef(key string, fallback uint32) uint32 {
	name := l.LoginDefs
	if name == "" {
		name = "/etc/login.defs"
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return fallback
	}
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == key {
			if n, err := strconv.ParseUint(f[1], 0, 32); err == nil {
				return uint32(n)
			}
		}
	}
	return fallback
}

// free goes down from the top of the system's range, as useradd does, and asks
// the look-up about each id: a directory service may know ids that it does not
// list.
func (l *LinuxHost) free(ctx context.Context, db, kind string, key string) (uint32, error) {
	high := l.loginDef("SYS_"+key+"_MAX", l.loginDef(key+"_MIN", 1000)-1)
	low := l.loginDef("SYS_"+key+"_MIN", 101)
	for id := high; id >= low && id > 0; id-- {
		res, err := l.Run.Read(ctx, getent, db, strconv.FormatUint(uint64(id), 10))
		if err != nil {
			return 0, fmt.Errorf("look for a free %s: %w", kind, err)
		}
		if res.Exit == 2 {
			return id, nil
		}
	}
	return 0, fmt.Errorf("no free %s between %d and %d", kind, low, high)
}

// FreeUID implements Accounts.
func (l *LinuxHost) FreeUID(ctx context.Context) (uint32, error) {
	return l.free(ctx, "passwd", "uid", "UID")
}

// FreeGID implements Accounts.
func (l *LinuxHost) FreeGID(ctx context.Context) (uint32, error) {
	return l.free(ctx, "group", "gid", "GID")
}

// Locked implements Accounts: L is what passwd(1) prints for a hash that
// starts with ! or *.
func (l *LinuxHost) Locked(ctx context.Context, name string) (bool, error) {
	res, err := l.Run.Read(ctx, passwd, "--status", name)
	if err == nil && res.Exit != 0 {
		err = &CommandError{Name: "passwd", Exit: res.Exit, Line: lastLine(res)}
	}
	if err != nil {
		return false, fmt.Errorf("password of %s: %w", name, err)
	}
	f := strings.Fields(res.Stdout)
	return len(f) >= 2 && (f[1] == "L" || f[1] == "LK"), nil
}

// Regular implements Accounts.
func (l *LinuxHost) Regular(u User) error {
	least := l.loginDef("UID_MIN", 1000)
	switch base := filepath.Base(u.Shell); {
	case u.UID == 0:
		return fmt.Errorf("%s is root: what runs as root needs no gateway and is stopped by none", u.Name)
	case u.UID < least || u.UID == 65534:
		return fmt.Errorf("%s is a system account (uid %d)", u.Name, u.UID)
	case base == "nologin" || base == "false":
		return fmt.Errorf("%s cannot log in (shell %s)", u.Name, u.Shell)
	}
	return nil
}

// accountName is what the shadow suite takes without options that widen it.
var accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// CheckName reports why a name cannot be an account or a group of ours.
func CheckName(name string) error {
	if !accountName.MatchString(name) {
		return fmt.Errorf("%q: want a lower case letter and at most 31 letters, digits, - or _", printable(name))
	}
	return nil
}

// change runs a command of the shadow suite. These take a lock on the files
// they write and give up at once when another holds it, so that one is waited
// for, 30 s at most.
func (l *LinuxHost) change(ctx context.Context, command string, args ...string) error {
	for tries := 0; ; tries++ {
		res, err := l.Run.Write(ctx, command, args...)
		if err == nil {
			return nil
		}
		if tries == 60 || !strings.Contains(res.Stderr, "cannot lock") {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// CreateGroup implements Accounts. The gid must be chosen.
func (l *LinuxHost) CreateGroup(ctx context.Context, g Group) error {
	if err := CheckName(g.Name); err != nil {
		return err
	}
	if err := l.change(ctx, groupadd, "--system", "--gid", number(g.GID), g.Name); err != nil {
		return fmt.Errorf("create group %s: %w", g.Name, taken(err))
	}
	got, err := l.Group(ctx, g.Name)
	if err != nil {
		return fmt.Errorf("create group %s: read back: %w", g.Name, err)
	}
	if got.GID != g.GID || len(got.Members) != 0 {
		return fmt.Errorf("create group %s: asked for gid %d, found gid %d with members %q", g.Name, g.GID, got.GID, got.Members)
	}
	// groupadd looks for the id before it takes its lock: two of them can give
	// the same one. The second in the file gives way.
	first, err := l.GroupByID(ctx, g.GID)
	if err != nil {
		return fmt.Errorf("create group %s: read back: %w", g.Name, err)
	}
	if first.Name != g.Name {
		return errors.Join(fmt.Errorf("create group %s: gid %d is also that of %s: %w", g.Name, g.GID, first.Name, ErrTaken),
			l.DeleteGroup(ctx, g.Name))
	}
	return nil
}

// DeleteGroup implements Accounts. None is no error.
func (l *LinuxHost) DeleteGroup(ctx context.Context, name string) error {
	if _, err := l.Group(ctx, name); err != nil {
		return ignoreNotFound(err)
	}
	if err := l.change(ctx, groupdel, name); err != nil {
		return fmt.Errorf("delete group %s: %w", name, err)
	}
	if _, err := l.Group(ctx, name); ignoreNotFound(err) != nil || err == nil {
		return fmt.Errorf("delete group %s: it is still there", name)
	}
	return nil
}

// CreateUser implements Accounts: a system account of its own primary group,
// with a password that nothing matches and without a home folder.
func (l *LinuxHost) CreateUser(ctx context.Context, u User) error {
	if err := CheckName(u.Name); err != nil {
		return err
	}
	err := l.change(ctx, useradd, "--system", "--uid", number(u.UID), "--gid", number(u.GID),
		"--home-dir", u.Home, "--no-create-home", "--shell", u.Shell, "--comment", u.Gecos, u.Name)
	if err != nil {
		return fmt.Errorf("create user %s: %w", u.Name, taken(err))
	}
	got, err := l.User(ctx, u.Name)
	if err != nil {
		return fmt.Errorf("create user %s: read back: %w", u.Name, err)
	}
	if got != u {
		return fmt.Errorf("create user %s: asked for %+v, found %+v", u.Name, u, got)
	}
	first, err := l.UserByID(ctx, u.UID)
	if err != nil {
		return fmt.Errorf("create user %s: read back: %w", u.Name, err)
	}
	if first.Name != u.Name {
		return errors.Join(fmt.Errorf("create user %s: uid %d is also that of %s: %w", u.Name, u.UID, first.Name, ErrTaken),
			l.DeleteUser(ctx, u.Name, true))
	}
	locked, err := l.Locked(ctx, u.Name)
	if err != nil {
		return err
	}
	if !locked {
		return fmt.Errorf("create user %s: it can log in with a password", u.Name)
	}
	return nil
}

// DeleteUser implements Accounts. None is no error. userdel takes a group of
// the same name with it; one that is to stay is put back.
func (l *LinuxHost) DeleteUser(ctx context.Context, name string, keepGroup bool) error {
	if _, err := l.User(ctx, name); err != nil {
		return ignoreNotFound(err)
	}
	group, err := l.Group(ctx, name)
	had := err == nil && keepGroup
	if ignoreNotFound(err) != nil {
		return err
	}
	if err := l.change(ctx, userdel, name); err != nil {
		return fmt.Errorf("delete user %s: %w", name, err)
	}
	if _, err := l.User(ctx, name); ignoreNotFound(err) != nil || err == nil {
		return fmt.Errorf("delete user %s: it is still there", name)
	}
	if !had {
		return nil
	}
	if _, err := l.Group(ctx, name); ignoreNotFound(err) != nil || err == nil {
		return ignoreNotFound(err)
	}
	return l.CreateGroup(ctx, Group{Name: name, GID: group.GID})
}

// AddMember implements Accounts.
func (l *LinuxHost) AddMember(ctx context.Context, group, user string) error {
	if err := l.change(ctx, gpasswd, "--add", user, group); err != nil {
		return fmt.Errorf("add %s to group %s: %w", user, group, err)
	}
	return l.readMember(ctx, group, user, true)
}

// RemoveMember implements Accounts.
func (l *LinuxHost) RemoveMember(ctx context.Context, group, user string) error {
	if err := l.change(ctx, gpasswd, "--delete", user, group); err != nil {
		return fmt.Errorf("take %s out of group %s: %w", user, group, err)
	}
	return l.readMember(ctx, group, user, false)
}

func (l *LinuxHost) readMember(ctx context.Context, group, user string, want bool) error {
	g, err := l.Group(ctx, group)
	if err != nil {
		return fmt.Errorf("members of %s: read back: %w", group, err)
	}
	if slices.Contains(g.Members, user) != want {
		return fmt.Errorf("members of %s: %s was to be a member: %t, is: %t", group, user, want, !want)
	}
	return nil
}

// taken recognises exit 4 of useradd and groupadd: the id is not unique.
func taken(err error) error {
	var c *CommandError
	if errors.As(err, &c) && c.Exit == 4 {
		return fmt.Errorf("%w: %w", ErrTaken, err)
	}
	return err
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
