package installer

import (
	"context"
	"errors"
	"fmt"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Rundir makes the socket folder, or checks the one that is there: the boot job
// of systems that empty it. It takes over nothing: a folder that is not exactly
// as it must be was made by somebody else, and is a conflict. The one exception
// is what it leaves itself when it is killed: an empty folder of root's.
func Rundir(ctx context.Context, p platform.Platform, serviceUser, clientGroup string) error {
	u, err := p.User(ctx, serviceUser)
	if err != nil {
		return err
	}
	g, err := p.Group(ctx, clientGroup)
	if err != nil {
		return err
	}
	run, f := p.Paths().Run, p.Files()
	want := platform.Owner{UID: u.UID, GID: g.GID, Mode: 0o750}
	conflict := func(err error) error {
		return &plan.ConflictError{Conflicts: []plan.Trouble{{Title: "socket folder", Err: err}}}
	}
	if err := f.CheckParents(run); err != nil {
		return conflict(err)
	}
	info, err := f.Lstat(run)
	switch {
	case missing(err):
		return f.MakeDir(run, want)
	case err != nil:
		return err
	case !info.IsDir():
		return conflict(plan.WithHint(fmt.Errorf("%s is %s", run, info.What()), "find out who made it, then remove it"))
	case info.Owner() == want:
		return nil
	}
	names, err := f.Entries(run)
	if err != nil {
		return err
	}
	if info.UID == 0 && info.RootOnly() && len(names) == 0 {
		return f.MakeDir(run, want)
	}
	return conflict(plan.WithHint(fmt.Errorf("%s is %v and not %v", run, info.Owner(), want),
		"find out who changed it, then remove it: it is made anew"))
}

// ErrNotInstalled says that there is no receipt.
var ErrNotInstalled = errors.New("carapace is not installed here: there is no receipt")
