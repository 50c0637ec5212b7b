package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/carapace-gateway/carapace/installer/platform"
)

// lookedUp turns an error of a look-up into an outcome. What does not exist is
// a fault of the installation; what could not be asked proves nothing.
func lookedUp(err error) outcome {
	if errors.Is(err, platform.ErrNotFound) {
		return fail(said(err.Error()), "sudo -k carapace-setup repair")
	}
	o := unknown(said(err.Error()), "")
	if errors.Is(err, platform.ErrForeign) {
		o.severity = Info
	}
	return o
}

// checkAccounts is about who is who: the service account must be nobody a
// person or a job logs in as, and the client must not be it.
func (v *verifier) checkAccounts(ctx context.Context) {
	self := []struct {
		Check
		run func(context.Context) outcome
	}{
		{Check{ID: "account.client", Title: "the client is another account than the service", Severity: Critical}, v.clientAccount},
		{Check{ID: "account.service", Title: "the service account is an ordinary one, and the installed one", Severity: Critical}, v.serviceAccount},
		{Check{ID: "account.groups", Title: "the service account shares no group but the clients'", Severity: High}, v.serviceGroups},
		{Check{ID: "account.shell", Title: "the service account has no login shell", Severity: High}, v.serviceShell},
		{Check{ID: "account.members", Title: "only clients are in the client group", Severity: High}, v.groupMembers},
	}
	for _, c := range self {
		v.add(ctx, c.Check, c.run)
	}
	v.addRoot(ctx, Check{ID: "account.password", Title: "no password opens the service account", Severity: High}, v.servicePassword)
	v.addRoot(ctx, Check{ID: "account.jobs", Title: "the service account has no jobs of its own", Severity: High}, v.serviceJobs)
}

func (v *verifier) clientAccount(ctx context.Context) outcome {
	t := v.t
	switch {
	case t.ClientUID == 0:
		return fail("the client is root", "run the agent as a user without privileges, and name it with --client")
	case t.ClientUID == t.Facts.ServiceUID:
		return fail(fmt.Sprintf("both are uid %d", t.ClientUID), "run the agent as another user than the service")
	case v.serviceErr != nil:
		return lookedUp(v.serviceErr)
	}
	u, err := v.acc.User(ctx, t.Client)
	if err != nil {
		return lookedUp(err)
	}
	if u.UID != t.ClientUID {
		return fail(fmt.Sprintf("%s is uid %d, and uid %d was to be verified", t.Client, u.UID, t.ClientUID), "name the client with --client")
	}
	in, err := v.clientGroups(ctx)
	if err != nil {
		return lookedUp(err)
	}
	own, err := v.acc.GroupByID(ctx, v.service.GID)
	if err != nil {
		return lookedUp(err)
	}
	if slices.Contains(in, own.Name) {
		return fail(fmt.Sprintf("%s is in the group %s of the service, which may read the configuration", t.Client, own.Name),
			v.leave(t.Client, own.Name))
	}
	return pass(fmt.Sprintf("client uid %d, service uid %d", t.ClientUID, t.Facts.ServiceUID))
}

// clientGroups names every group of the client: those that the look-up gives
// a new login, and those that the installer was told.
func (v *verifier) clientGroups(ctx context.Context) ([]string, error) {
	in, err := v.acc.GroupsOf(ctx, v.t.Client)
	if err != nil {
		return nil, err
	}
	for _, gid := range append([]uint32{v.t.ClientGID}, v.t.ClientGroups...) {
		g, err := v.acc.GroupByID(ctx, gid)
		if errors.Is(err, platform.ErrNotFound) {
			continue // a number without a name is in none of our lists
		}
		if err != nil {
			return nil, err
		}
		in = append(in, g.Name)
	}
	return in, nil
}

// leave is the command that takes a user out of a group.
func (v *verifier) leave(user, group string) string {
	if v.t.OS == MacOS {
		return fmt.Sprintf("sudo -k dseditgroup -n . -o edit -d %s -t user %s", user, group)
	}
	return fmt.Sprintf("sudo -k gpasswd --delete %s %s, then log in anew", user, group)
}

func (v *verifier) serviceAccount(ctx context.Context) outcome {
	if v.serviceErr != nil {
		return lookedUp(v.serviceErr)
	}
	first, err := v.acc.UserByID(ctx, v.t.Facts.ServiceUID)
	switch u := v.service; {
	case u.UID == 0:
		return fail(u.Name+" is root", "sudo -k carapace-setup uninstall, then install with another service_user")
	case u.UID != v.t.Facts.ServiceUID:
		return fail(fmt.Sprintf("%s is uid %d; install.json says %d", u.Name, u.UID, v.t.Facts.ServiceUID), "sudo -k carapace-setup repair")
	case err != nil:
		return lookedUp(err)
	case first.Name != u.Name:
		return fail(fmt.Sprintf("uid %d is also %s", u.UID, said(first.Name)), "give the other account another uid")
	}
	return pass(fmt.Sprintf("%s is uid %d, gid %d", v.service.Name, v.service.UID, v.service.GID))
}

func (v *verifier) serviceGroups(ctx context.Context) outcome {
	if v.serviceErr != nil {
		return lookedUp(v.serviceErr)
	}
	u := v.service
	own, err := v.acc.GroupByID(ctx, u.GID)
	if err != nil {
		return lookedUp(err)
	}
	if own.Name != u.Name {
		return fail(fmt.Sprintf("the primary group of %s is %s, not its own", u.Name, own.Name), "sudo -k carapace-setup repair")
	}
	sharers, err := v.acc.Sharers(ctx, own.GID)
	if err != nil {
		return lookedUp(err)
	}
	others := slices.DeleteFunc(append(sharers, own.Members...), func(n string) bool { return n == u.Name })
	if len(others) > 0 {
		return fail(fmt.Sprintf("also in group %s: %s", own.Name, said(strings.Join(others, ", "))), v.leave(others[0], own.Name))
	}
	in, err := v.acc.GroupsOf(ctx, u.Name)
	if err != nil {
		return lookedUp(err)
	}
	// macOS puts every account into groups of its own making, which only the
	// platform knows; what matters there is that none of them is a power.
	in = slices.DeleteFunc(in, func(n string) bool {
		return n == own.Name || n == v.t.clientGroup() || v.t.OS == MacOS && !isPower(n)
	})
	if len(in) > 0 {
		return fail(fmt.Sprintf("%s is also in: %s", u.Name, said(strings.Join(in, ", "))), v.leave(u.Name, in[0]))
	}
	return pass("groups " + own.Name + ", " + v.t.clientGroup())
}

func (v *verifier) serviceShell(context.Context) outcome {
	if v.serviceErr != nil {
		return lookedUp(v.serviceErr)
	}
	switch s := v.service.Shell; s {
	case "/usr/sbin/nologin", "/sbin/nologin", "/usr/bin/false", "/bin/false":
		return pass("shell " + s)
	case "":
		return fail("no shell is set, which means /bin/sh", "sudo -k carapace-setup repair")
	default:
		if v.t.OS == MacOS { // the account that signs in to Messages has one
			return warn("the shell is "+said(s), "")
		}
		return fail("the shell is "+said(s), "sudo -k usermod --shell /usr/sbin/nologin "+v.t.ServiceUser)
	}
}

func (v *verifier) groupMembers(ctx context.Context) outcome {
	g, err := v.acc.Group(ctx, v.t.clientGroup())
	if err != nil {
		return lookedUp(err)
	}
	sharers, err := v.acc.Sharers(ctx, g.GID)
	if err != nil {
		return lookedUp(err)
	}
	var extra, missing []string
	people := append(sharers, g.Members...)
	for _, n := range people {
		if n != v.t.ServiceUser && !slices.Contains(v.t.Facts.Clients, n) {
			extra = append(extra, n)
		}
	}
	for _, n := range v.t.Facts.Clients {
		if !slices.Contains(people, n) {
			missing = append(missing, n)
		}
	}
	switch {
	case len(extra) > 0:
		return fail("also in group "+g.Name+": "+said(strings.Join(extra, ", ")), v.leave(extra[0], g.Name))
	case len(missing) > 0:
		return warn("not in group "+g.Name+": "+said(strings.Join(missing, ", ")), "sudo -k carapace-setup repair")
	}
	return pass(g.Name + ": " + said(strings.Join(people, ", ")))
}

func (v *verifier) servicePassword(ctx context.Context) outcome {
	locked, err := v.acc.Locked(ctx, v.t.ServiceUser)
	switch {
	case err != nil:
		return lookedUp(err)
	case !locked:
		return fail("the account has a password, or needs none", "sudo -k usermod --lock "+v.t.ServiceUser)
	}
	return pass("the password is locked")
}

// jobFolders are where cron keeps the jobs of users, a file each.
var jobFolders = []string{"/var/spool/cron/crontabs", "/var/spool/cron/tabs", "/var/spool/cron", "/var/at/tabs", "/usr/lib/cron/tabs"}

// serviceJobs looks for jobs that would run as the service user. What is in
// them is not opened.
func (v *verifier) serviceJobs(context.Context) outcome {
	for _, dir := range jobFolders {
		path := dir + "/" + v.t.ServiceUser
		_, err := os.Lstat(path)
		switch {
		case err == nil:
			return fail("there is "+path, "read it, then: sudo -k crontab -u "+v.t.ServiceUser+" -r")
		case !os.IsNotExist(err) && !errors.Is(err, syscall.ENOTDIR):
			return unknown(said(err.Error()), "")
		}
	}
	return pass("no crontab")
}
