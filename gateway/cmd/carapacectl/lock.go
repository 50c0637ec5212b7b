package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
)

func lockCommand() command {
	return command{
		name: "lock", args: "[REASON] [--json]",
		about: "refuse everything at once, until unlock, across restarts",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				return e.setLock(ctx, "lock", map[string]string{"reason": strings.Join(words, " ")}, *asJSON)
			}
		},
	}
}

func unlockCommand() command {
	return command{
		name: "unlock", args: "[--json]",
		about: "let the policy decide again",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if err := noArguments("unlock", words); err != nil {
					return err
				}
				return e.setLock(ctx, "unlock", struct{}{}, *asJSON)
			}
		},
	}
}

func (e *env) setLock(ctx context.Context, method string, params any, asJSON bool) error {
	var raw json.RawMessage
	if err := e.askAdmin(ctx, method, params, &raw); err != nil {
		return err
	}
	if asJSON {
		return e.json(raw)
	}
	var answer struct{ Locked bool }
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("the gateway's answer: %w", err)
	}
	if answer.Locked {
		e.printf("locked\n")
	} else {
		e.printf("not locked\n")
	}
	return nil
}
