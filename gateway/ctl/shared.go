package ctl

import (
	"context"
	"flag"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// The commands that both halves of carapacectl know: the one that a person
// calls by their flags and help, the one that carries them out by what they
// do.

// PolicyCheck is the command of that name; path is empty for the configuration
// in force.
func PolicyCheck(do func(ctx context.Context, e *Env, path string, asJSON bool) error) Command {
	return Command{
		Name: "policy check", Args: "[FILE] [--json]",
		About: "would the gateway take this configuration?",
		More: `Without FILE the configuration in force is checked, and also whether anybody
but root could have written it.`,
		Setup: func(fs *flag.FlagSet) Action {
			asJSON := JSONFlag(fs)
			return func(ctx context.Context, e *Env, words []string) error {
				switch {
				case len(words) == 0:
					return do(ctx, e, "", *asJSON)
				case len(words) == 1 && words[0] != "":
					return do(ctx, e, words[0], *asJSON)
				}
				return Usagef("policy check", "policy check takes one FILE, or none")
			}
		},
	}
}

// Question is what policy explain is asked.
type Question struct {
	Channel   string
	Direction string // outbound, inbound
	To        string // the other side: a person, or a group
	From      string // inbound from a group: who wrote it
	Text      string // - is read from standard input
	Config    string // path; empty: the configuration in force
	JSON      bool
}

// PolicyExplain is the command of that name.
func PolicyExplain(do func(ctx context.Context, e *Env, q Question) error) Command {
	return Command{
		Name: "policy explain", Args: "--channel C [--direction outbound|inbound] --to R [--from S] --text T [--config FILE] [--json]",
		About: "which rule would decide, and why; does nothing",
		More: `Outbound, --to is whom the message would go to. Inbound, it is where the
message would come from: a person, or a group, in which --from is who wrote it.

The configuration is what is asked. What the gateway remembers, a lock or a
spent rate, is not looked at.`,
		Setup: func(fs *flag.FlagSet) Action {
			var q Question
			fs.StringVar(&q.Channel, "channel", "", "name of the channel")
			fs.StringVar(&q.Direction, "direction", "outbound", "outbound or inbound")
			fs.StringVar(&q.To, "to", "", "the other side")
			fs.StringVar(&q.From, "from", "", "inbound from a group: who wrote it")
			fs.StringVar(&q.Text, "text", "", "the message; - reads it from standard input")
			fs.StringVar(&q.Config, "config", "", "a configuration in place of the one in force")
			fs.BoolVar(&q.JSON, "json", false, "print JSON")
			return func(ctx context.Context, e *Env, words []string) error {
				if err := NoArguments("policy explain", words); err != nil {
					return err
				}
				return do(ctx, e, q)
			}
		},
	}
}

// Verified is what audit verify prints with --json.
type Verified struct {
	OK      bool   `json:"ok"`
	Records uint64 `json:"records"`
	Head    string `json:"head"`
	Error   string `json:"error,omitempty"`
}

// AuditVerify is the command of that name; dir is empty for the log that the
// gateway has open. A log that does not hold is a *Failure.
func AuditVerify(do func(ctx context.Context, e *Env, dir string) (Verified, error)) Command {
	return Command{
		Name: "audit verify", Args: "[DIR] [--json]",
		About: "is every record what was written?",
		More: `Without DIR the gateway verifies the log that it has open. With DIR the log
there is verified, with no gateway; a copy of it will do.`,
		Setup: func(fs *flag.FlagSet) Action {
			asJSON := JSONFlag(fs)
			return func(ctx context.Context, e *Env, words []string) error {
				dir := ""
				switch {
				case len(words) == 1 && words[0] != "":
					dir = words[0]
				case len(words) > 0:
					return Usagef("audit verify", "audit verify takes one DIR, or none")
				}
				v, err := do(ctx, e, dir)
				if f, ok := err.(*Failure); ok && *asJSON && f.Code == wire.ExitFailed {
					if err := e.JSON(Verified{Error: f.Error()}); err != nil {
						return err
					}
				}
				switch {
				case err != nil:
					return err
				case *asJSON:
					return e.JSON(v)
				}
				e.Printf("ok: %d records, head %s\n", v.Records, v.Head)
				return nil
			}
		},
	}
}
