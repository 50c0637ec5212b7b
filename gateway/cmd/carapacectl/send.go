package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// maxText is more than the gateway takes of one text in any configuration that
// it comes with; it bounds what is read from standard input.
const maxText = 8 << 20

func (a *app) sendCommand() ctl.Command {
	return ctl.Command{
		Name: "send", Args: "--channel C --to R --text T [--json]",
		About: "send a message, if the policy permits it",
		More: `With --text - the text is read from standard input: what stands in an
argument can be read by every user of the machine.

A refused message ends with exit code 77, one that comes too soon with 75, and
one that the gateway could not pass on with 69.`,
		Setup: func(fs *flag.FlagSet) ctl.Action {
			channel := fs.String("channel", "", "name of the channel")
			to := fs.String("to", "", "recipient")
			text := fs.String("text", "", "the message; - reads it from standard input")
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if err := ctl.NoArguments("send", words); err != nil {
					return err
				}
				for name, value := range map[string]string{"channel": *channel, "to": *to, "text": *text} {
					if value == "" {
						return ctl.Usagef("send", "--channel, --to and --text are needed, and --%s is empty", name)
					}
				}
				if *text == "-" {
					b, err := io.ReadAll(io.LimitReader(e.Stdin, maxText+1))
					switch {
					case err != nil:
						return fmt.Errorf("read the text: %w", err)
					case len(b) > maxText:
						return ctl.Usagef("send", "the text is longer than %d bytes", maxText)
					}
					*text = string(b)
				}
				var raw json.RawMessage
				err := a.ask(ctx, "channel.send", map[string]string{"channel": *channel, "to": *to, "text": *text}, &raw)
				if w, ok := errors.AsType[*wire.Error](err); ok && w.Code == wire.CodeInvalidRequest {
					// The one request of ours that can be none is too long.
					return ctl.Usagef("send", "%s", w.Message)
				}
				if err != nil {
					return err
				}
				if *asJSON {
					return e.JSON(raw)
				}
				var sent struct{ ID, Status string }
				if err := json.Unmarshal(raw, &sent); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				e.Printf("%s %s\n", sent.Status, sent.ID)
				return nil
			}
		},
	}
}
