package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

func reloadCommand() command {
	return command{
		name: "reload", args: "[--widen] [--json]",
		about: "read the configuration again; --widen if it permits more than before",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			widen := fs.Bool("widen", false, "the configuration may permit more than the present one")
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if err := noArguments("reload", words); err != nil {
					return err
				}
				var raw json.RawMessage
				err := e.askAdmin(ctx, "reload", map[string]bool{"widen": *widen}, &raw)
				if w, ok := errors.AsType[*wire.Error](err); ok && w.Code == wire.CodeInvalidParams {
					// The configuration is what is wrong, not the command line; each
					// of its faults is a line.
					return &failure{wire.ExitFailed, strings.Split(w.Message, "\n"), w.Hint()}
				}
				if err != nil {
					return err
				}
				if *asJSON {
					return e.json(raw)
				}
				var answer struct {
					PolicySHA256 string `json:"policy_sha256"`
					Gained       []string
				}
				if err := json.Unmarshal(raw, &answer); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				e.printf("in force: policy sha256 %s\n", answer.PolicySHA256)
				for _, g := range answer.Gained {
					e.printf("now permitted: %s\n", g)
				}
				return nil
			}
		},
	}
}
