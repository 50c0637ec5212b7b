package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"

	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

func (a *app) pingCommand() ctl.Command {
	return ctl.Command{
		Name: "ping", Args: "[--json]",
		About: "is the gateway there, and does it run as the service user?",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if err := ctl.NoArguments("ping", words); err != nil {
					return err
				}
				var raw json.RawMessage
				if err := a.ask(ctx, "ping", nil, &raw); err != nil {
					return err
				}
				if *asJSON {
					return e.JSON(raw)
				}
				// Read by hand: encoding/json would be a tenth of this command.
				var user, version, uid string
				err := wire.Members(raw, func(key string, value []byte) {
					switch key {
					case "user":
						user, _ = wire.Text(value)
					case "version":
						version, _ = wire.Text(value)
					case "uid":
						uid = string(value)
					}
				})
				if err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				e.Printf("pong from %s (uid %s), version %s\n", user, uid, version)
				return nil
			}
		},
	}
}
