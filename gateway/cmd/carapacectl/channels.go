package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// channelPeers is one channel as a client sees it.
type channelPeers struct {
	Name     string   `json:"name"`
	State    string   `json:"state"`
	Outbound []string `json:"outbound"`
	Inbound  []string `json:"inbound"`
}

func channelsCommand() command {
	return command{
		name: "channels", args: "[--json]",
		about: "the channels; a client also sees whom it may write to and hear from",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if err := noArguments("channels", words); err != nil {
					return err
				}
				if _, owner, err := e.owner(); err == nil && owner {
					return e.ownersChannels(ctx, *asJSON)
				}
				return e.clientsChannels(ctx, *asJSON)
			}
		},
	}
}

func (e *env) ownersChannels(ctx context.Context, asJSON bool) error {
	raw, s, err := e.status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		var part struct{ Channels json.RawMessage }
		if err := json.Unmarshal(raw, &part); err != nil {
			return fmt.Errorf("the gateway's answer: %w", err)
		}
		return e.json(part.Channels)
	}
	rows := make([][]string, 0, len(s.Channels))
	for _, c := range s.Channels {
		row := []string{c.Name, c.State}
		if c.LastError != "" {
			row = append(row, c.LastError)
		}
		rows = append(rows, row)
	}
	e.table(rows)
	return nil
}

func (e *env) clientsChannels(ctx context.Context, asJSON bool) error {
	o, err := e.discover()
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
		return e.json(all)
	}
	rows := make([][]string, 0, len(all))
	for _, p := range all {
		rows = append(rows, []string{p.Name, p.State, "to " + people(p.Outbound), "from " + people(p.Inbound)})
	}
	e.table(rows)
	return nil
}

// people names the entries of a list. A star is how the gateway says that it is
// not a list of people.
func people(list []string) string {
	switch {
	case len(list) == 0:
		return "nobody"
	case len(list) == 1 && list[0] == "*":
		return "anybody"
	}
	return strings.Join(list, ", ")
}
