package platform

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// The commands of macOS by the places they have there (contracts: every one by
// absolute path, because Homebrew can shadow a name).
const (
	dscl  = "/usr/bin/dscl"
	macID = "/usr/bin/id"
)

// MacHost is a macOS system. It can be planned for; nothing is changed on it
// yet, and every method that would says ErrForeign.
type MacHost struct {
	Where Paths
	Run   *Runner
	FS    *Files
	// OnPaper is set where the plan of a Mac is printed on another system:
	// nothing is looked up then, and nothing exists.
	OnPaper bool
}

var _ Platform = (*MacHost)(nil)

// NewMac returns a macOS system. paper plans one from somewhere else.
func NewMac(where Paths, paper bool, mutated func(string)) *MacHost {
	return &MacHost{Where: where, Run: &Runner{Mutated: mutated}, FS: &Files{Paper: paper, Mutated: mutated}, OnPaper: paper}
}

// OS implements Platform.
func (m *MacHost) OS() string { return MacOS }

// Paths implements Platform.
func (m *MacHost) Paths() Paths { return m.Where }

// Paper implements Platform.
func (m *MacHost) Paper() bool { return m.OnPaper }

// Files implements Platform.
func (m *MacHost) Files() *Files { return m.FS }

// Processes implements Platform.
func (m *MacHost) Processes() Processes { return noProcesses{} }

type noProcesses struct{}

func (noProcesses) Of(context.Context, uint32) ([]Process, error) { return nil, ErrForeign }
func (noProcesses) Terminate(context.Context, Process) error      { return ErrForeign }

// record reads attributes of one record of the local node. dscl exits 56 when
// there is no such record; a missing attribute is a complaint and exit 0.
func (m *MacHost) record(ctx context.Context, what, dir, name string, attrs ...string) (map[string][]string, error) {
	if m.OnPaper {
		return nil, notFound(what, name)
	}
	if name == "" || strings.ContainsAny(name, "/\n\x00") || strings.HasPrefix(name, "-") {
		return nil, fmt.Errorf("%s name %q: not a name", what, name)
	}
	res, err := m.Run.Read(ctx, dscl, append([]string{".", "-read", dir + "/" + name}, attrs...)...)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look up %s %s: %w", what, name, err)
	case res.Exit == 56:
		return nil, notFound(what, name)
	case res.Exit != 0:
		return nil, fmt.Errorf("look up %s %s: %w", what, name, &CommandError{Name: "dscl", Exit: res.Exit, Line: lastLine(res)})
	}
	return parseRecord(res.Stdout), nil
}

// parseRecord reads what dscl -read prints: "Key: v1 v2", or, when a value has
// a space in it, "Key:" and every value on a line of its own after one space.
func parseRecord(text string) map[string][]string {
	rec := make(map[string][]string)
	key := ""
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, " ") {
			if key != "" {
				rec[key] = append(rec[key], strings.TrimPrefix(line, " "))
			}
			continue
		}
		i := strings.LastIndex(line, ": ")
		switch {
		case strings.HasSuffix(line, ":"):
			key = strings.TrimPrefix(strings.TrimSuffix(line, ":"), "dsAttrTypeNative:")
			rec[key] = nil
		case i > 0:
			// Native attributes have a colon in their name, values may too:
			// the first ": " ends the name.
			name, vals, _ := strings.Cut(line, ": ")
			key = strings.TrimPrefix(name, "dsAttrTypeNative:")
			rec[key] = strings.Fields(vals)
		default:
			key = ""
		}
	}
	return rec
}

func one(rec map[string][]string, key string) string {
	if v := rec[key]; len(v) > 0 {
		return strings.Join(v, " ")
	}
	return ""
}

func oneID(rec map[string][]string, key string) (uint32, error) {
	n, err := strconv.ParseInt(one(rec, key), 10, 64) // nobody is -2
	if err != nil {
		return 0, fmt.Errorf("%s %q", key, one(rec, key))
	}
	return uint32(n), nil
}

// User implements Accounts.
func (m *MacHost) User(ctx context.Context, name string) (User, error) {
	rec, err := m.record(ctx, "user", "/Users", name, "UniqueID", "PrimaryGroupID", "NFSHomeDirectory", "UserShell", "RealName")
	if err != nil {
		return User{}, err
	}
	u := User{Name: name, Gecos: one(rec, "RealName"), Home: one(rec, "NFSHomeDirectory"), Shell: one(rec, "UserShell")}
	if u.UID, err = oneID(rec, "UniqueID"); err != nil {
		return User{}, fmt.Errorf("user %s is half made: %w", name, err)
	}
	if u.GID, err = oneID(rec, "PrimaryGroupID"); err != nil {
		return User{}, fmt.Errorf("user %s is half made: %w", name, err)
	}
	return u, nil
}

// Group implements Accounts.
func (m *MacHost) Group(ctx context.Context, name string) (Group, error) {
	rec, err := m.record(ctx, "group", "/Groups", name, "PrimaryGroupID", "GroupMembership")
	if err != nil {
		return Group{}, err
	}
	g := Group{Name: name, Members: rec["GroupMembership"]}
	if g.GID, err = oneID(rec, "PrimaryGroupID"); err != nil {
		return Group{}, fmt.Errorf("group %s is half made: %w", name, err)
	}
	return g, nil
}

// byID finds the record with an id. A search without a hit is empty, exit 0.
func (m *MacHost) byID(ctx context.Context, what, dir, key string, id uint32) (string, error) {
	if m.OnPaper {
		return "", notFound(what, number(id))
	}
	res, err := m.Run.Read(ctx, dscl, "/Search", "-search", dir, key, number(id))
	if err == nil && res.Exit != 0 {
		err = &CommandError{Name: "dscl", Exit: res.Exit, Line: lastLine(res)}
	}
	if err != nil {
		return "", fmt.Errorf("look up %s %d: %w", what, id, err)
	}
	if f := strings.Fields(res.Stdout); len(f) > 0 {
		return f[0], nil
	}
	return "", notFound(what, number(id))
}

// UserByID implements Accounts.
func (m *MacHost) UserByID(ctx context.Context, uid uint32) (User, error) {
	name, err := m.byID(ctx, "user", "/Users", "UniqueID", uid)
	if err != nil {
		return User{}, err
	}
	return m.User(ctx, name)
}

// GroupByID implements Accounts.
func (m *MacHost) GroupByID(ctx context.Context, gid uint32) (Group, error) {
	name, err := m.byID(ctx, "group", "/Groups", "PrimaryGroupID", gid)
	if err != nil {
		return Group{}, err
	}
	return m.Group(ctx, name)
}

// GroupsOf implements Accounts.
func (m *MacHost) GroupsOf(ctx context.Context, name string) ([]string, error) {
	if _, err := m.User(ctx, name); err != nil {
		return nil, err
	}
	res, err := m.Run.Read(ctx, macID, "-Gn", name)
	if err == nil && res.Exit != 0 {
		err = &CommandError{Name: "id", Exit: res.Exit, Line: lastLine(res)}
	}
	if err != nil {
		return nil, fmt.Errorf("groups of %s: %w", name, err)
	}
	return strings.Fields(res.Stdout), nil
}

// Sharers implements Accounts.
func (m *MacHost) Sharers(ctx context.Context, gid uint32) ([]string, error) {
	if m.OnPaper {
		return nil, nil
	}
	res, err := m.Run.Read(ctx, dscl, ".", "-list", "/Users", "PrimaryGroupID")
	if err == nil && res.Exit != 0 {
		err = &CommandError{Name: "dscl", Exit: res.Exit, Line: lastLine(res)}
	}
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	var names []string
	for _, line := range strings.Split(res.Stdout, "\n") {
		f := strings.Fields(line)
		if len(f) == 2 && f[1] == number(gid) {
			names = append(names, f[0])
		}
	}
	return names, nil
}

// Regular implements Accounts: people's accounts start at 501.
func (m *MacHost) Regular(u User) error {
	switch base := filepath.Base(u.Shell); {
	case u.UID == 0:
		return fmt.Errorf("%s is root: what runs as root needs no gateway and is stopped by none", u.Name)
	case u.UID < 501 || u.UID > 1<<31:
		return fmt.Errorf("%s is a system account (uid %d)", u.Name, int32(u.UID))
	case base == "false" || base == "nologin":
		return fmt.Errorf("%s cannot log in (shell %s)", u.Name, u.Shell)
	}
	return nil
}

// Manager implements Services.
func (m *MacHost) Manager(context.Context) string { return "launchd" }

// FreeUID implements Accounts.
func (m *MacHost) FreeUID(context.Context) (uint32, error) { return 0, ErrForeign }

// FreeGID implements Accounts.
func (m *MacHost) FreeGID(context.Context) (uint32, error) { return 0, ErrForeign }

// Locked implements Accounts.
func (m *MacHost) Locked(context.Context, string) (bool, error) { return false, ErrForeign }

// CreateGroup implements Accounts.
func (m *MacHost) CreateGroup(context.Context, Group) error { return ErrForeign }

// DeleteGroup implements Accounts.
func (m *MacHost) DeleteGroup(context.Context, string) error { return ErrForeign }

// CreateUser implements Accounts.
func (m *MacHost) CreateUser(context.Context, User) error { return ErrForeign }

// DeleteUser implements Accounts.
func (m *MacHost) DeleteUser(context.Context, string, bool) error { return ErrForeign }

// AddMember implements Accounts.
func (m *MacHost) AddMember(context.Context, string, string) error { return ErrForeign }

// RemoveMember implements Accounts.
func (m *MacHost) RemoveMember(context.Context, string, string) error { return ErrForeign }

// Service implements Services.
func (m *MacHost) Service(context.Context, string) (Service, error) { return Service{}, ErrForeign }

// Reload implements Services.
func (m *MacHost) Reload(context.Context) error { return ErrForeign }

// Enable implements Services.
func (m *MacHost) Enable(context.Context, string) error { return ErrForeign }

// Disable implements Services.
func (m *MacHost) Disable(context.Context, string) error { return ErrForeign }

// Start implements Services.
func (m *MacHost) Start(context.Context, string) error { return ErrForeign }

// Restart implements Services.
func (m *MacHost) Restart(context.Context, string) error { return ErrForeign }

// Stop implements Services.
func (m *MacHost) Stop(context.Context, string) error { return ErrForeign }

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
