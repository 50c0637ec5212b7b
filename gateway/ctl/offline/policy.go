package offline

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/guard"
	"github.com/carapace-gateway/carapace/gateway/policy"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// readPolicy reads the configuration at a path that a person named, who may
// own it and keep it where they like, or (path empty) the one in force, as
// strictly as the gateway would.
func readPolicy(e *ctl.Env, path string) (*config.Config, error) {
	if path == "" {
		c, err := config.Load(config.DefaultPath(runtime.GOOS))
		if errors.Is(err, fs.ErrPermission) && e.UID != 0 {
			return nil, e.NeedsOwner()
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

type fault struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text"`
}

func policyCheck(_ context.Context, e *ctl.Env, path string, asJSON bool) error {
	c, err := readPolicy(e, path)
	if f, ok := errors.AsType[*ctl.Failure](err); ok {
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
		if err := e.JSON(out); err != nil {
			return err
		}
		if !out.OK {
			return &ctl.Failure{Code: wire.ExitFailed}
		}
		return nil
	}
	if err != nil {
		return broken(err)
	}
	for _, w := range out.Warnings {
		e.Say("warning: " + w)
	}
	enabled := slices.Sorted(maps.Keys(c.Channels))
	enabled = slices.DeleteFunc(enabled, func(name string) bool { return !c.Channels[name].Enabled })
	e.Printf("ok: %s, channels enabled: %s\n", path, ctl.People(enabled))
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

// broken is the end of a command that could not read the configuration: each
// fault of it is a line.
func broken(err error) error {
	if f, ok := errors.AsType[*ctl.Failure](err); ok {
		return f
	}
	if _, ok := errors.AsType[*config.Error](err); !ok {
		return err
	}
	var lines []string
	for _, f := range faults(err) {
		if f.File == "" {
			lines = append(lines, f.Text)
		} else {
			lines = append(lines, fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text))
		}
	}
	return &ctl.Failure{Code: wire.ExitFailed, Lines: lines}
}

// operation reads a question as the gateway would read the real thing.
func operation(q ctl.Question, region string) (policy.Operation, error) {
	fail := func(format string, args ...any) (policy.Operation, error) {
		return policy.Operation{}, ctl.Usagef("policy explain", format, args...)
	}
	channels := all.Channels(region)
	ch, ok := channels[q.Channel]
	switch {
	case !ok:
		return fail("--channel is one of: %s", strings.Join(slices.Sorted(maps.Keys(channels)), ", "))
	case q.To == "":
		return fail("--to is missing")
	case q.Direction == "outbound" && q.From != "":
		return fail("--from is for --direction inbound")
	}
	switch q.Direction {
	case "outbound":
		params, err := json.Marshal(map[string]string{"to": q.To, "text": q.Text})
		if err != nil {
			return policy.Operation{}, err
		}
		op, err := ch.Classify(channel.Call{Method: "send", Params: params})
		if err != nil {
			return fail("%s", err)
		}
		op.Channel = q.Channel
		if r, ok := ch.(channel.Resolver); ok {
			if _, needed := r.Lookup(op); needed {
				return fail("only the tool knows who %s is", ctl.Quoted(q.To))
			}
		}
		return op, nil
	case "inbound":
		return received(q, region)
	}
	return fail("--direction is outbound or inbound")
}

// received is one message that came in, as a channel's Inbound makes it.
func received(q ctl.Question, region string) (policy.Operation, error) {
	op := policy.Operation{
		Channel: q.Channel, Direction: policy.Inbound, Verb: policy.VerbReceive,
		Command: "history", Default: true, Body: []policy.Text{policy.Text(q.Text)},
	}
	var err error
	if op.Chat, err = policy.ParsePeer(q.Channel, q.To, region); err != nil {
		return op, ctl.Usagef("policy explain", "--to: %s", err)
	}
	op.From = op.Chat
	switch op.Chat.Kind() {
	case policy.KindChat, policy.KindGroup, policy.KindChannel:
		op.Group = true
		op.From = policy.Peer{}
	}
	switch {
	case q.From == "" && op.Group:
		return op, ctl.Usagef("policy explain", "--from is missing: who wrote it in %s?", ctl.Quoted(q.To))
	case q.From != "":
		if op.From, err = policy.ParsePeer(q.Channel, q.From, region); err != nil {
			return op, ctl.Usagef("policy explain", "--from: %s", err)
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

func policyExplain(ctx context.Context, e *ctl.Env, q ctl.Question) error {
	if q.Text == "-" {
		b, err := io.ReadAll(io.LimitReader(e.Stdin, maxText))
		if err != nil {
			return fmt.Errorf("read the text: %w", err)
		}
		q.Text = string(b)
	}
	c, err := readPolicy(e, q.Config)
	if err != nil {
		return broken(err)
	}
	p := c.Policy
	op, err := operation(q, p.Region)
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
	if q.JSON {
		return e.JSON(x)
	}
	e.Printf("%s: %s\n  rule  %s\n  peer  %s\n\nopinions\n", x.Action, x.Reason, x.Rule, x.Peer)
	rows := make([][]string, 0, len(x.Opinions))
	for _, o := range x.Opinions {
		rows = append(rows, []string{"  " + o.stage, o.Action, o.Rule, o.Reason})
	}
	e.Table(rows)
	return nil
}
