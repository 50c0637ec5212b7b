package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// app is what the commands share.
type app struct {
	discover      func() (wire.ClientOptions, error)
	discoverAdmin func() (wire.ClientOptions, error)
}

// commands is the table, in the order in which help shows it.
func (a *app) commands() []ctl.Command {
	return []ctl.Command{
		a.pingCommand(),
		a.sendCommand(),
		a.statusCommand(),
		a.channelsCommand(),
		a.queueListCommand(),
		a.queueShowCommand(),
		a.queuePurgeCommand(),
		a.auditTailCommand(),
		a.auditShowCommand(),
		ctl.AuditVerify(a.auditVerify),
		ctl.PolicyCheck(func(_ context.Context, e *ctl.Env, _ string, _ bool) error { return a.handOver(e) }),
		ctl.PolicyExplain(func(_ context.Context, e *ctl.Env, _ ctl.Question) error { return a.handOver(e) }),
		a.reloadCommand(),
		a.lockCommand(),
		a.unlockCommand(),
		ctl.Completion(a.commands),
	}
}

// handOver replaces this program by the other half, with the same arguments.
func (a *app) handOver(e *ctl.Env) error {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	half := otherHalf(exe)
	err = syscall.Exec(half, append([]string{half, "ctl"}, e.Args...), os.Environ())
	return fmt.Errorf("run %s, which does this: %w", half, err)
}

// otherHalf is the daemon's executable: in libexec of an installation, beside
// this program where the build left both.
func otherHalf(exe string) string {
	dir := filepath.Dir(exe)
	if filepath.Base(dir) == "bin" {
		dir = filepath.Join(filepath.Dir(dir), "libexec")
	}
	return filepath.Join(dir, "carapaced")
}

// ask calls one method on the client socket.
func (a *app) ask(ctx context.Context, method string, params, result any) error {
	o, err := a.discover()
	if err != nil {
		return err
	}
	return askAt(ctx, o, method, params, result)
}

// askAdmin calls one method on the admin socket.
func (a *app) askAdmin(ctx context.Context, e *ctl.Env, method string, params, result any) error {
	c, err := a.dialAdmin(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, method, params, result)
}

func askAt(ctx context.Context, o wire.ClientOptions, method string, params, result any) error {
	c, err := wire.Dial(ctx, o)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, method, params, result)
}

func (a *app) dialAdmin(ctx context.Context, e *ctl.Env) (*wire.Client, error) {
	o, owner, err := a.owner(e)
	if err != nil {
		return nil, err
	}
	if !owner {
		return nil, e.NeedsOwner()
	}
	return wire.Dial(ctx, o)
}

// owner says whether this is root or the service user, and where the admin
// socket is.
func (a *app) owner(e *ctl.Env) (wire.ClientOptions, bool, error) {
	o, err := a.discoverAdmin()
	if err != nil {
		return o, e.UID == 0, err
	}
	return o, e.UID == 0 || e.UID == int(o.ServerUID), nil
}
