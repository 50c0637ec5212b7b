package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
)

func pingCommand() command {
	return command{
		name: "ping", args: "[--json]",
		about: "is the gateway there, and does it run as the service user?",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if err := noArguments("ping", words); err != nil {
					return err
				}
				var raw json.RawMessage
				if err := e.ask(ctx, "ping", nil, &raw); err != nil {
					return err
				}
				if *asJSON {
					return e.json(raw)
				}
				var pong struct {
					User    string
					UID     uint32
					Version string
				}
				if err := json.Unmarshal(raw, &pong); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				e.printf("pong from %s (uid %d), version %s\n", pong.User, pong.UID, pong.Version)
				return nil
			}
		},
	}
}
