package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/channel/all"
	"github.com/carapace-gateway/carapace/gateway/config"
	"github.com/carapace-gateway/carapace/gateway/guard"
	"github.com/carapace-gateway/carapace/gateway/policy"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// readPolicy reads the configuration at a path that a person named, who may
// own it and keep it where they like, or (path empty) the one in force, as
// strictly as the gateway would.
func (e *env) readPolicy(path string) (*config.Config, error) {
	if path == "" {
		c, err := config.Load(config.DefaultPath(runtime.GOOS))
		if errors.Is(err, fs.ErrPermission) && e.uid != 0 {
			return nil, e.needsOwner()
		}
		return c, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, config.MaxSize+1))
	if err != nil {
		return nil, err
	}
	return config.Parse(path, data) // which refuses one that is too long
}

func policyCheckCommand() command {
	return command{
		name: "policy check", args: "[FILE] [--json]",
		about: "would the gateway take this configuration?",
		more: `Without FILE the configuration in force is checked, and also whether anybody
but root could have written it.`,
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(_ context.Context, e *env, words []string) error {
				path := ""
				switch len(words) {
				case 0:
				case 1:
					path = words[0]
				default:
					return usagef("policy check", "policy check takes one FILE, or none")
				}
				return e.policyCheck(path, *asJSON)
			}
		},
	}
}

type fault struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text"`
}

func (e *env) policyCheck(path string, asJSON bool) error {
	c, err := e.readPolicy(path)
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if path == "" {
		path = config.DefaultPath(runtime.GOOS)
	}
	out := struct {
		OK           bool     `json:"ok"`
		File         string   `json:"file"`
		PolicySHA256 string   `json:"policy_sha256,omitempty"`
		Errors       []fault  `json:"errors"`
		Warnings     []string `json:"warnings"`
	}{OK: err == nil, File: path, Errors: faults(err), Warnings: []string{}}
	if c != nil {
		out.PolicySHA256 = c.Policy.SHA256
		out.Warnings = append(out.Warnings, c.Warnings...)
	}
	if asJSON {
		if err := e.json(out); err != nil {
			return err
		}
		if !out.OK {
			return &failure{code: wire.ExitFailed}
		}
		return nil
	}
	if err != nil {
		return &failure{wire.ExitFailed, configLines(err), ""}
	}
	for _, w := range out.Warnings {
		e.say("warning: "+w, "")
	}
	enabled := slices.Sorted(maps.Keys(c.Channels))
	enabled = slices.DeleteFunc(enabled, func(name string) bool { return !c.Channels[name].Enabled })
	e.printf("ok: %s, channels enabled: %s\n", path, people(enabled))
	return nil
}

// faults takes an error of the configuration apart.
func faults(err error) []fault {
	out := []fault{}
	if err == nil {
		return out
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			out = append(out, faults(one)...)
		}
		return out
	}
	if c, ok := errors.AsType[*config.Error](err); ok {
		return append(out, fault{c.File, c.Line, c.Text})
	}
	return append(out, fault{Text: err.Error()})
}

// configLines gives each fault of a configuration a line, and any other error
// one.
func configLines(err error) []string {
	if _, ok := errors.AsType[*config.Error](err); !ok {
		return []string{err.Error()}
	}
	var lines []string
	for _, f := range faults(err) {
		if f.File == "" {
			lines = append(lines, f.Text)
		} else {
			lines = append(lines, fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text))
		}
	}
	return lines
}

func policyExplainCommand() command {
	return command{
		name: "policy explain", args: "--channel C [--direction outbound|inbound] --to R [--from S] --text T [--config FILE] [--json]",
		about: "which rule would decide, and why; does nothing",
		more: `Outbound, --to is whom the message would go to. Inbound, it is where the
message would come from: a person, or a group, in which --from is who wrote it.

The configuration is what is asked. What the gateway remembers, a lock or a
spent rate, is not looked at.`,
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			var q question
			fs.StringVar(&q.channel, "channel", "", "name of the channel")
			fs.StringVar(&q.direction, "direction", "outbound", "outbound or inbound")
			fs.StringVar(&q.to, "to", "", "the other side")
			fs.StringVar(&q.from, "from", "", "inbound from a group: who wrote it")
			fs.StringVar(&q.text, "text", "", "the message; - reads it from standard input")
			path := fs.String("config", "", "a configuration in place of the one in force")
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if err := noArguments("policy explain", words); err != nil {
					return err
				}
				if q.text == "-" {
					b, err := io.ReadAll(io.LimitReader(e.stdin, maxText))
					if err != nil {
						return fmt.Errorf("read the text: %w", err)
					}
					q.text = string(b)
				}
				c, err := e.readPolicy(*path)
				if err != nil {
					return err
				}
				return e.explain(ctx, c.Policy, q, *asJSON)
			}
		},
	}
}

// question is what policy explain is asked.
type question struct {
	channel, direction, to, from, text string
}

// operation reads a question as the gateway would read the real thing.
func (q question) operation(region string) (policy.Operation, error) {
	fail := func(format string, args ...any) (policy.Operation, error) {
		return policy.Operation{}, usagef("policy explain", format, args...)
	}
	channels := all.Channels(region)
	ch, ok := channels[q.channel]
	switch {
	case !ok:
		return fail("--channel is one of: %s", strings.Join(slices.Sorted(maps.Keys(channels)), ", "))
	case q.to == "":
		return fail("--to is missing")
	case q.direction == "outbound" && q.from != "":
		return fail("--from is for --direction inbound")
	}
	switch q.direction {
	case "outbound":
		params, err := json.Marshal(map[string]string{"to": q.to, "text": q.text})
		if err != nil {
			return policy.Operation{}, err
		}
		op, err := ch.Classify(channel.Call{Method: "send", Params: params})
		if err != nil {
			return fail("%s", err)
		}
		op.Channel = q.channel
		if r, ok := ch.(channel.Resolver); ok {
			if _, needed := r.Lookup(op); needed {
				return fail("only the tool knows who %s is", quoted(q.to))
			}
		}
		return op, nil
	case "inbound":
		return q.received(region)
	}
	return fail("--direction is outbound or inbound")
}

// received is one message that came in, as a channel's Inbound makes it.
func (q question) received(region string) (policy.Operation, error) {
	op := policy.Operation{
		Channel: q.channel, Direction: policy.Inbound, Verb: policy.VerbReceive,
		Command: "history", Default: true, Body: []policy.Text{policy.Text(q.text)},
	}
	var err error
	if op.Chat, err = policy.ParsePeer(q.channel, q.to, region); err != nil {
		return op, usagef("policy explain", "--to: %s", err)
	}
	op.From = op.Chat
	switch op.Chat.Kind() {
	case policy.KindChat, policy.KindGroup, policy.KindChannel:
		op.Group = true
		op.From = policy.Peer{}
	}
	switch {
	case q.from == "" && op.Group:
		return op, usagef("policy explain", "--from is missing: who wrote it in %s?", quoted(q.to))
	case q.from != "":
		if op.From, err = policy.ParsePeer(q.channel, q.from, region); err != nil {
			return op, usagef("policy explain", "--from: %s", err)
		}
	}
	return op, nil
}

// explanation is interface §7.
type explanation struct {
	Action   string    `json:"action"`
	Rule     string    `json:"rule"`
	Reason   string    `json:"reason"`
	Peer     string    `json:"peer"`
	Opinions []opinion `json:"opinions"`
}

type opinion struct {
	Rule   string `json:"rule"`
	Action string `json:"action"`
	Reason string `json:"reason"`
	stage  string
}

func (e *env) explain(ctx context.Context, p *policy.Policy, q question, asJSON bool) error {
	op, err := q.operation(p.Region)
	if err != nil {
		return err
	}
	g := guard.New(p, guard.NewLimiter(p), func() (bool, string) { return false, "" })
	d := g.Explain(ctx, &op)
	word := func(a policy.Action) string {
		if a == policy.Deny && op.Direction == policy.Inbound {
			return "drop"
		}
		return a.String()
	}
	peers := op.Peers()
	x := explanation{Action: word(d.Action), Rule: d.Rule, Reason: d.Reason, Opinions: []opinion{}}
	if len(peers) > 0 {
		x.Peer = peers[0].String()
	}
	for _, o := range d.Opinions {
		x.Opinions = append(x.Opinions, opinion{o.Rule, word(o.Action), o.Reason, o.Stage.String()})
	}
	if asJSON {
		return e.json(x)
	}
	e.printf("%s: %s\n  rule  %s\n  peer  %s\n\nopinions\n", x.Action, x.Reason, x.Rule, x.Peer)
	rows := make([][]string, 0, len(x.Opinions))
	for _, o := range x.Opinions {
		rows = append(rows, []string{"  " + o.stage, o.Action, o.Rule, o.Reason})
	}
	e.table(rows)
	return nil
}
