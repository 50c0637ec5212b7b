package step

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Spool is the folder in which one client finds its inbound files: the service
// user's to write, that client's alone to read. Where the client's primary
// group is nobody else's, the group reads it (2750, so that what is made in it
// has the group); else an access list names the client.
type Spool struct {
	Path    string `json:"path"`
	Client  string `json:"client"`
	User    string `json:"user"` // the service user
	Group   string `json:"group"`
	Purpose string `json:"-"`

	machine
	mem spoolMemory
}

type spoolMemory struct {
	List bool   `json:"list"` // an access list and not a private group
	UID  uint32 `json:"uid"`  // of the client
	GID  uint32 `json:"gid"`
}

// Kind implements plan.Step.
func (*Spool) Kind() string { return "spool" }

// Key implements plan.Step.
func (s *Spool) Key() string { return s.Path }

// Title implements plan.Step.
func (s *Spool) Title() string { return "create folder " + s.Path }

// Detail implements plan.Describer.
func (s *Spool) Detail() string { return fmt.Sprintf("%s's, readable by %s alone", s.User, s.Client) }

// Why implements plan.Describer.
func (s *Spool) Why() string { return s.Purpose }

// Memory implements plan.Rememberer.
func (s *Spool) Memory() any { return s.mem }

// Recall implements plan.Rememberer.
func (s *Spool) Recall(data json.RawMessage) error { return s.recallInto(data, &s.mem) }

// Plan implements plan.Step.
func (s *Spool) Plan(ctx context.Context) (plan.Change, error) {
	if err := s.parents(s.Path); err != nil {
		return "", err
	}
	info, err := s.files().Lstat(s.Path)
	switch {
	case gone(err):
		return plan.Make, nil
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", plan.WithHint(fmt.Errorf("%s is %s", s.Path, info.What()), "move it away")
	case !s.recalled:
		return "", plan.WithHint(fmt.Errorf("%s exists and was not made by carapace-setup", s.Path), "move it away")
	}
	return plan.Make, nil
}

// Prepare implements plan.Preparer.
func (s *Spool) Prepare(ctx context.Context) error {
	client, err := s.sys.User(ctx, s.Client)
	if err != nil {
		return err
	}
	group, err := s.sys.GroupByID(ctx, client.GID)
	if err != nil {
		return err
	}
	sharers, err := s.sys.Sharers(ctx, client.GID)
	if err != nil {
		return err
	}
	private := group.Name == s.Client && client.GID != 0 && len(sharers) == 1 && sharers[0] == s.Client &&
		!slices.ContainsFunc(group.Members, func(m string) bool { return m != s.Client })
	s.mem = spoolMemory{List: !private, UID: client.UID, GID: client.GID}
	return nil
}

func (s *Spool) want(ctx context.Context) (platform.Owner, error) {
	if s.mem.List {
		return s.owner(ctx, s.User, s.Group, 0o750)
	}
	uid, err := s.uid(ctx, s.User)
	return platform.Owner{UID: uid, GID: s.mem.GID, Mode: 0o2750}, err
}

// Apply implements plan.Step.
func (s *Spool) Apply(ctx context.Context) error {
	want, err := s.want(ctx)
	if err != nil {
		return err
	}
	if !s.mem.List {
		return s.files().MakeDir(s.Path, want)
	}
	// For nobody first: between owner and access list the group could read.
	closed := want
	closed.Mode = 0o700
	if err := s.files().MakeDir(s.Path, closed); err != nil {
		return err
	}
	return s.files().AllowReader(s.Path, s.mem.UID)
}

// Verify implements plan.Step.
func (s *Spool) Verify(ctx context.Context) error {
	want, err := s.want(ctx)
	if err != nil {
		return err
	}
	if err := verifyDir(s.files(), s.Path, want); err != nil {
		return err
	}
	if s.mem.List {
		ok, err := s.files().AllowsReader(s.Path, s.mem.UID)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("the access list of %s does not name %s alone", s.Path, s.Client)
		}
	}
	client, err := s.sys.User(ctx, s.Client)
	if err == nil && client.UID != s.mem.UID {
		err = fmt.Errorf("%s has uid %d and had %d when %s was made", s.Client, client.UID, s.mem.UID, s.Path)
	}
	return err
}

// Revert implements plan.Step.
func (s *Spool) Revert(context.Context) error {
	info, err := s.files().Lstat(s.Path)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is %s and not the folder we made", s.Path, info.What())
	}
	return s.files().RemoveTree(s.Path)
}
