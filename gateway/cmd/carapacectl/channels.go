package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"

	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// channelPeers is one channel as a client sees it.
type channelPeers struct {
	Name     string   `json:"name"`
	State    string   `json:"state"`
	Outbound []string `json:"outbound"`
	Inbound  []string `json:"inbound"`
}

func (a *app) channelsCommand() ctl.Command {
	return ctl.Command{
		Name: "channels", Args: "[--json]",
		About: "the channels; a client also sees whom it may write to and hear from",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if err := ctl.NoArguments("channels", words); err != nil {
					return err
				}
				if _, owner, err := a.owner(e); err == nil && owner {
					return a.ownersChannels(ctx, e, *asJSON)
				}
				return a.clientsChannels(ctx, e, *asJSON)
			}
		},
	}
}

func (a *app) ownersChannels(ctx context.Context, e *ctl.Env, asJSON bool) error {
	raw, s, err := a.status(ctx, e)
	if err != nil {
		return err
	}
	if asJSON {
		var part struct{ Channels json.RawMessage }
		if err := json.Unmarshal(raw, &part); err != nil {
			return fmt.Errorf("the gateway's answer: %w", err)
		}
		return e.JSON(part.Channels)
	}
	rows := make([][]string, 0, len(s.Channels))
	for _, c := range s.Channels {
		row := []string{c.Name, c.State}
		if c.LastError != "" {
			row = append(row, c.LastError)
		}
		rows = append(rows, row)
	}
	e.Table(rows)
	return nil
}

func (a *app) clientsChannels(ctx context.Context, e *ctl.Env, asJSON bool) error {
	o, err := a.discover()
	if err != nil {
		return err
	}
	c, err := wire.Dial(ctx, o)
	if err != nil {
		return err
	}
	defer c.Close()
	var s status
	if err := c.Call(ctx, "status", nil, &s); err != nil {
		return err
	}
	all := make([]channelPeers, 0, len(s.Channels))
	for _, ch := range s.Channels {
		p := channelPeers{Name: ch.Name, State: ch.State}
		if err := c.Call(ctx, "channel.peers", map[string]string{"channel": ch.Name}, &p); err != nil {
			return err
		}
		all = append(all, p)
	}
	if asJSON {
		return e.JSON(all)
	}
	rows := make([][]string, 0, len(all))
	for _, p := range all {
		rows = append(rows, []string{p.Name, p.State, "to " + ctl.People(p.Outbound), "from " + ctl.People(p.Inbound)})
	}
	e.Table(rows)
	return nil
}
