package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/ctl"
)

func (a *app) lockCommand() ctl.Command {
	return ctl.Command{
		Name: "lock", Args: "[REASON] [--json]",
		About: "refuse everything at once, until unlock, across restarts",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				return a.setLock(ctx, e, "lock", map[string]string{"reason": strings.Join(words, " ")}, *asJSON)
			}
		},
	}
}

func (a *app) unlockCommand() ctl.Command {
	return ctl.Command{
		Name: "unlock", Args: "[--json]",
		About: "let the policy decide again",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if err := ctl.NoArguments("unlock", words); err != nil {
					return err
				}
				return a.setLock(ctx, e, "unlock", struct{}{}, *asJSON)
			}
		},
	}
}

func (a *app) setLock(ctx context.Context, e *ctl.Env, method string, params any, asJSON bool) error {
	var raw json.RawMessage
	if err := a.askAdmin(ctx, e, method, params, &raw); err != nil {
		return err
	}
	if asJSON {
		return e.JSON(raw)
	}
	var answer struct{ Locked bool }
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("the gateway's answer: %w", err)
	}
	if answer.Locked {
		e.Printf("locked\n")
	} else {
		e.Printf("not locked\n")
	}
	return nil
}
