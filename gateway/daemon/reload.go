package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/adapter"
	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/channel/loopback"
	"github.com/carapace-gateway/carapace/gateway/config"
	"github.com/carapace-gateway/carapace/gateway/guard"
	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/policy"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// acceptedFile holds the configuration that was last in force, so that a wider
// one is noticed at start too.
const acceptedFile = "config.accepted.yaml"

// load reads the configuration for a start. When it permits more than the last
// accepted one, the last accepted one is returned together with the reason.
func (d *Daemon) load() (*accepted, string, error) {
	c, err := d.opts.read(d.opts.Config)
	if err != nil {
		return nil, "", err
	}
	last, err := d.lastAccepted()
	if err != nil {
		return nil, "", err
	}
	if last != nil {
		if gained := policy.Wider(last.Policy, c.Policy); len(gained) > 0 {
			why := "config.yaml permits more than what was last accepted; run: sudo -k carapacectl reload --widen"
			d.log.Warn("the configuration is not in force", "reason", why, "gained", len(gained))
			return d.accept(last), why, nil
		}
	}
	return d.accept(c), "", nil
}

func (d *Daemon) lastAccepted() (*config.Config, error) {
	data, err := os.ReadFile(filepath.Join(d.opts.State, acceptedFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the last accepted configuration: %w", err)
	}
	c, err := config.Parse("config.yaml", data)
	if err != nil {
		// A copy that a newer version cannot read any more bounds nothing: the
		// file that root wrote is then the only word there is.
		d.log.Warn("the last accepted configuration cannot be read any more", "error", err)
		return nil, nil
	}
	return c, nil
}

func (d *Daemon) accept(c *config.Config) *accepted {
	return &accepted{config: c, clients: d.opts.clients(c.Clients)}
}

// install puts a configuration in force.
func (d *Daemon) install(next *accepted, refused string) {
	next.refused = refused
	next.guard = guard.New(next.config.Policy, d.limiter, d.lock.Locked)
	d.current.Store(next)
	if d.opts.Level != nil {
		var level slog.Level
		if err := level.UnmarshalText([]byte(next.config.Gateway.LogLevel)); err == nil {
			d.opts.Level.Set(level)
		}
	}
	if err := writeDurably(filepath.Join(d.opts.State, acceptedFile), next.config.Raw); err != nil {
		d.log.Error("keep the accepted configuration", "error", err)
	}
}

// reload reads the configuration again and puts it in force, if it permits no
// more than the present one or a person said that it may.
func (d *Daemon) reload(ctx context.Context, widen bool, record func(string) error) ([]string, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	c, err := d.opts.read(d.opts.Config)
	if err != nil {
		return nil, &wire.Error{Code: wire.CodeInvalidParams, Message: err.Error(),
			Data: &wire.ErrorData{Hint: "the configuration in force is unchanged; correct the file and reload again"}}
	}
	now := d.current.Load()
	gained := policy.Wider(now.config.Policy, c.Policy)
	if len(gained) > 0 && !widen {
		return nil, &wire.Error{Code: wire.CodeCommand,
			Message: "the configuration permits more than the present one: " + strings.Join(gained, "; "),
			Data:    &wire.ErrorData{Hint: "if that is meant: sudo -k carapacectl reload --widen"}}
	}
	if c.Policy.Region != now.config.Policy.Region {
		return nil, &wire.Error{Code: wire.CodeCommand, Message: "region changes what a number means and is taken at a restart only",
			Data: &wire.ErrorData{Hint: "restart the gateway: sudo systemctl restart carapace"}}
	}
	if err := record("policy " + c.Policy.SHA256); err != nil {
		return nil, err
	}
	d.limiter.Reconfigure(c.Policy)
	d.attempts.Reconfigure(c.Policy.Attempts)
	d.outbox.Reconfigure(outboxOptions(c, d.log))
	d.install(d.accept(c), "")
	if err := d.startRunners(ctx, c); err != nil {
		return nil, d.adminError("start the channels", err)
	}
	d.log.Info("configuration in force", "policy", c.Policy.SHA256, "gained", len(gained))
	if gained == nil {
		gained = []string{}
	}
	return gained, nil
}

// startRunners makes the runners fit the configuration: what is no longer
// enabled is stopped, what is new is started, what did not change goes on.
func (d *Daemon) startRunners(ctx context.Context, c *config.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, r := range d.runners {
		if name == "loopback" {
			continue
		}
		if now := c.Channels[name]; now == nil || !now.Enabled || now.Tool != d.tools[name] {
			if err := r.Close(); err != nil {
				d.log.Warn("stop a channel", "channel", name, "error", err)
			}
			delete(d.runners, name)
			delete(d.tools, name)
		}
	}
	// The messenger is always there: verify sends to its reserved peers,
	// whatever the configuration says.
	if d.runners["loopback"] == nil {
		m, err := loopback.Open(filepath.Join(d.opts.State, "loopback"))
		if err != nil {
			return fmt.Errorf("open the loopback mailboxes: %w", err)
		}
		d.runners["loopback"] = m
	}
	if im := c.Channels["imessage"]; im != nil && im.Enabled && d.runners["imessage"] == nil {
		home, err := homeOf(d.uid)
		if err != nil {
			return err
		}
		r := adapter.NewResident(adapter.Spec{
			Name: "imsg", Tool: im.Tool, Args: []string{"rpc"}, Dir: home, Home: home,
			// The first real question of a fresh child opens the database: ask it
			// before a person waits for the answer.
			Probe:   &channel.Request{Method: "chats.list", Params: map[string]int{"limit": 1}},
			Timeout: c.Gateway.RequestTimeout, TrustOwner: d.opts.trust, Log: d.log,
		})
		// The child outlives the request that asked for the reload.
		if err := r.Start(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("start imessage: %w", err)
		}
		d.runners["imessage"], d.tools["imessage"] = r, im.Tool
	}
	return nil
}

var _ channel.Runner = (*adapter.Resident)(nil)

// homeOf returns the home folder of the service user, in which its tools keep
// their own state. It is looked up, never taken from the environment.
func homeOf(uid uint32) (string, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "", fmt.Errorf("find the home of the service user: %w", err)
	}
	return u.HomeDir, nil
}

func outboxOptions(c *config.Config, log *slog.Logger) journal.OutboxOptions {
	return journal.OutboxOptions{Retain: c.DeadLetters.Retain, Max: c.DeadLetters.Max, KeepContent: c.DeadLetters.KeepContent, Log: log}
}
