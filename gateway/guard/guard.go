// Package guard decides. It asks the rules about one operation in their fixed
// order (lock, command, peer, content, quiet hours and rate) and takes the
// strictest answer.
//
// It promises that no rule can overrule a stricter one, whatever their order;
// that a token of the rate is spent only when no other rule objects; that what
// a client is told is the first objection in the order and nothing about the
// others, since more would be an oracle for the lists; that a reason for a
// client contains no list, pattern or path, while Verdict.Rule says for the log
// which line of which file spoke; and that two guards with one policy and one
// limiter give one answer.
//
// It refuses whatever it cannot place: an effect that reaches nobody named, an
// item without sender and conversation, a channel that the policy does not
// enable, a state of the lock that cannot be read.
package guard

import (
	"context"
	"slices"
	"time"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Guard is one policy applied. It is safe for concurrent use. After a reload a
// daemon makes a new one with the same Limiter.
type Guard struct {
	policy  *policy.Policy
	limiter *Limiter
	locked  func() (bool, string)
}

// Decision is what came of one operation.
type Decision struct {
	// Verdict is the strictest of all opinions; among equals the first in the
	// order, but for a permitted operation the one of the peer rule, which
	// says most.
	policy.Verdict
	// Told is the first objection in the order: what a client may hear. It is
	// equal to Verdict when nothing objects. An objection is Deny or Hold.
	Told policy.Verdict
	// Opinions is what every rule said, in their order; several of one stage
	// where it judged several things.
	Opinions []policy.Verdict
	// Body is the body with every content finding replaced by [redacted:ID],
	// but those that a rule only warns of. It is nil when there is none. It stands beside every verdict,
	// for what is stored of a refused operation; it replaces the body of one
	// that passes only when the verdict is Redact.
	Body []policy.Text
}

// New returns the guard of a policy, which must not be changed from then on.
// Locked says whether the gateway is locked and since when or why; it must say
// true when it cannot tell. A nil locked is such a case. A nil policy permits
// nothing.
func New(p *policy.Policy, l *Limiter, locked func() (bool, string)) *Guard {
	if p == nil {
		p = &policy.Policy{}
	}
	if locked == nil {
		locked = func() (bool, string) { return true, "" }
	}
	return &Guard{policy: p, limiter: l, locked: locked}
}

// Decide judges an operation, and spends what the rate asks for when nothing
// objects.
func (g *Guard) Decide(ctx context.Context, op *policy.Operation) Decision {
	return g.judge(ctx, op, true)
}

// Explain judges an operation as Decide does and spends nothing.
func (g *Guard) Explain(ctx context.Context, op *policy.Operation) Decision {
	return g.judge(ctx, op, false)
}

func (g *Guard) judge(ctx context.Context, op *policy.Operation, spend bool) Decision {
	d := Decision{Opinions: make([]policy.Verdict, 0, 8)}
	c := g.policy.Channels[op.Channel]
	if c == nil {
		c = &policy.ChannelPolicy{}
	}
	trial := isTrial(op)

	d.Opinions = append(d.Opinions, g.lock(op))
	d.Opinions = append(d.Opinions, command(c, op, trial))
	d.Opinions = g.peers(d.Opinions, c, op)
	d.Opinions, d.Body = g.content(d.Opinions, op)
	if op.Verb.Effect() {
		if !trial {
			d.Opinions = g.quiet(d.Opinions, time.Now())
		}
		if ctx.Err() != nil {
			d.Opinions = append(d.Opinions, policy.Verdict{Stage: policy.StageRate, Rule: "rate:" + op.Channel, Reason: "the request was given up"})
		} else if !slices.ContainsFunc(d.Opinions, objection) {
			// Not asked otherwise: an empty bucket would refuse for good what
			// is held for a person, who may release it when there is room.
			d.Opinions = append(d.Opinions, g.limiter.verdict(op.Channel, op.Peers(), spend))
		}
	}
	d.Verdict, d.Told = conclude(d.Opinions)
	return d
}

// objection says whether a verdict keeps an operation from happening.
func objection(v policy.Verdict) bool { return v.Action <= policy.Hold }

// conclude picks the strictest opinion and the one that a client may hear. No
// opinion at all denies.
func conclude(opinions []policy.Verdict) (strictest, told policy.Verdict) {
	for i, v := range opinions {
		switch {
		case i == 0, v.Action < strictest.Action:
			strictest = v
		case v.Action == policy.Allow && strictest.Action == policy.Allow && v.Stage == policy.StagePeer && strictest.Stage != policy.StagePeer:
			strictest = v
		}
	}
	if i := slices.IndexFunc(opinions, objection); i >= 0 {
		return strictest, opinions[i]
	}
	return strictest, strictest
}

func (g *Guard) lock(op *policy.Operation) policy.Verdict {
	locked, why := g.locked()
	if !locked {
		return policy.Verdict{Action: policy.Allow, Stage: policy.StageLock, Rule: "lock", Reason: "not locked"}
	}
	if op.Verb == policy.VerbStatus {
		return policy.Verdict{Action: policy.Allow, Stage: policy.StageLock, Rule: "lock", Reason: "locked, but this reads no data"}
	}
	rule := "lock"
	if why != "" {
		rule += ": " + why
	}
	return policy.Verdict{Stage: policy.StageLock, Rule: rule, Reason: "the gateway is locked"}
}

func command(c *policy.ChannelPolicy, op *policy.Operation, trial bool) policy.Verdict {
	v := policy.Verdict{Stage: policy.StageCommand, Rule: "command:" + op.Command, Reason: "command not permitted"}
	switch {
	case trial && op.Default:
		v.Action, v.Reason = policy.Allow, "needed to verify the installation"
	case slices.Contains(c.DenyCommands, op.Command):
		v.Rule = or(c.DenyWhere, v.Rule)
	case slices.Contains(c.AllowCommands, op.Command):
		v.Action, v.Rule, v.Reason = policy.Allow, or(c.AllowWhere, v.Rule), "command permitted"
	case op.Default:
		v.Action, v.Reason = policy.Allow, "command permitted by the channel"
	}
	return v
}

// quiet gives the opinion of the quiet hours, if there are any. It stands with
// the rate: both say that it is the wrong time.
func (g *Guard) quiet(opinions []policy.Verdict, now time.Time) []policy.Verdict {
	q := g.policy.QuietHours
	if q == nil {
		return opinions
	}
	quiet, left := q.Quiet(now)
	if !quiet {
		return opinions
	}
	v := policy.Verdict{Stage: policy.StageRate, Rule: or(q.Where, "quiet_hours"), Reason: "quiet hours", RetryAfter: left}
	if q.Action == policy.Hold {
		v.Action = policy.Hold
	}
	return append(opinions, v)
}

func or(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
