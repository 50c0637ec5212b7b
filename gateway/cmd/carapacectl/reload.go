package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

func (a *app) reloadCommand() ctl.Command {
	return ctl.Command{
		Name: "reload", Args: "[--widen] [--json]",
		About: "read the configuration again; --widen if it permits more than before",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			widen := fs.Bool("widen", false, "the configuration may permit more than the present one")
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if err := ctl.NoArguments("reload", words); err != nil {
					return err
				}
				var raw json.RawMessage
				err := a.askAdmin(ctx, e, "reload", map[string]bool{"widen": *widen}, &raw)
				if w, ok := errors.AsType[*wire.Error](err); ok && w.Code == wire.CodeInvalidParams {
					// The configuration is what is wrong, not the command line; each
					// of its faults is a line.
					return &ctl.Failure{Code: wire.ExitFailed, Lines: strings.Split(w.Message, "\n"), Hint: w.Hint()}
				}
				if err != nil {
					return err
				}
				if *asJSON {
					return e.JSON(raw)
				}
				var answer struct {
					PolicySHA256 string `json:"policy_sha256"`
					Gained       []string
				}
				if err := json.Unmarshal(raw, &answer); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				e.Printf("in force: policy sha256 %s\n", answer.PolicySHA256)
				for _, g := range answer.Gained {
					e.Printf("now permitted: %s\n", g)
				}
				return nil
			}
		},
	}
}
