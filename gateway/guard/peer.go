package guard

import (
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// The reasons of the peer rule that a client may hear. Being on the deny list
// and being on no list sound alike: the difference is the owner's affair.
const (
	notEnabled  = "channel not enabled"
	noRecipient = "no recipient"
	notListedTo = "recipient not on the list"
	notListedIn = "sender not on the list"
	notListedAt = "conversation not on the list"
	noSender    = "no sender"
	verifyOnly  = "reserved for verifying the installation"
)

// reserved returns the opinion on a reserved peer of loopback, which holds
// whatever the configuration says.
func reserved(channel string, p policy.Peer) (policy.Action, bool) {
	if channel != "loopback" || p.Kind() != policy.KindName {
		return policy.Deny, false
	}
	switch p.ID() {
	case policy.VerifyOK:
		return policy.Allow, true
	case policy.VerifyStranger:
		return policy.Deny, true
	}
	return policy.Deny, false
}

// isTrial reports whether an operation touches the reserved peers and nobody
// else.
func isTrial(op *policy.Operation) bool {
	one := false
	for _, p := range [...]policy.Peer{op.Chat, op.From} {
		if p.IsZero() {
			continue
		}
		if _, ok := reserved(op.Channel, p); !ok {
			return false
		}
		one = true
	}
	for _, p := range op.To {
		if _, ok := reserved(op.Channel, p); !ok {
			return false
		}
		one = true
	}
	return one
}

// peers gives the peer rule's opinions, at least one: of every peer that an
// operation would reach, or of the conversation and the sender of what is read.
func (g *Guard) peers(opinions []policy.Verdict, c *policy.ChannelPolicy, op *policy.Operation) []policy.Verdict {
	if !c.Enabled && !isTrial(op) {
		return append(opinions, policy.Verdict{Stage: policy.StagePeer, Rule: or(c.Where, "channel:"+op.Channel), Reason: notEnabled})
	}
	j := &peerJudge{opinions: opinions, channel: op.Channel, policy: c, start: len(opinions)}
	switch op.Verb {
	case policy.VerbStatus:
		j.pass("reads no data")
	case policy.VerbReceive:
		j.item(op)
	case policy.VerbList, policy.VerbRead, policy.VerbWatch:
		j.read(op)
	default:
		j.effect(op)
	}
	return j.opinions
}

type peerJudge struct {
	opinions []policy.Verdict
	start    int // where the peer rule's own begin
	channel  string
	policy   *policy.ChannelPolicy
}

func (j *peerJudge) say(a policy.Action, rule, reason string) {
	j.opinions = append(j.opinions, policy.Verdict{Action: a, Stage: policy.StagePeer, Rule: or(rule, "peer:"+j.channel), Reason: reason})
}

func (j *peerJudge) pass(why string) { j.say(policy.Allow, j.policy.Where, why) }

// ask gives the opinion of a list on one peer. Reason is what is said when it
// objects.
func (j *peerJudge) ask(l *policy.List, p policy.Peer, reason string) {
	if action, ok := reserved(j.channel, p); ok {
		if action == policy.Allow {
			reason = verifyOnly
		}
		j.say(action, "verify", reason)
		return
	}
	action, where := l.Judge(p)
	if action == policy.Allow {
		reason = "permitted"
	}
	j.say(action, where, reason)
}

// effect judges everybody whom an operation would reach: the recipients and
// the conversation, whichever the tool would prefer.
func (j *peerJudge) effect(op *policy.Operation) {
	if op.Verb == policy.VerbSend && len(op.To) == 0 {
		j.say(policy.Deny, "", noRecipient)
		return
	}
	for i, p := range op.To {
		if !contains(op.To[:i], p) {
			j.ask(&j.policy.Outbound, p, notListedTo)
		}
	}
	if !op.Chat.IsZero() && !contains(op.To, op.Chat) {
		j.ask(&j.policy.Outbound, op.Chat, notListedTo)
	}
	if len(j.opinions) > j.start {
		return
	}
	if op.Verb == policy.VerbAdmin {
		// It changes the account and reaches nobody: the command rule has let
		// it through only because the owner named it.
		j.pass("reaches nobody")
		return
	}
	j.say(policy.Deny, "", noRecipient)
}

// read judges a request for what came in. Without a conversation it passes
// here, because every item of the answer is judged as it comes. Nobody can
// release the answer to a question later, so that hold means deny.
func (j *peerJudge) read(op *policy.Operation) {
	for _, p := range op.To {
		j.ask(&j.policy.Inbound, p, notListedAt)
	}
	if !op.Chat.IsZero() {
		j.ask(&j.policy.Inbound, op.Chat, notListedAt)
	}
	for i := j.start; i < len(j.opinions); i++ {
		if j.opinions[i].Action == policy.Hold {
			j.opinions[i].Action = policy.Deny
		}
	}
	if len(j.opinions) == j.start {
		j.pass("every item is judged by itself")
	}
}

// item judges one thing that came in or came back.
func (j *peerJudge) item(op *policy.Operation) {
	in := &j.policy.Inbound
	if op.Group || isConversation(op.Chat) {
		j.ask(in, op.Chat, notListedAt)
		if op.From.IsZero() {
			return
		}
		if j.policy.GroupSenders == policy.SendersAllowed {
			j.ask(in, op.From, notListedIn)
		} else if denied, where := in.Denies(op.From); denied {
			j.say(policy.Deny, where, notListedIn)
		}
		return
	}
	switch {
	case !op.From.IsZero():
		j.ask(in, op.From, notListedIn)
	case !op.Chat.IsZero():
		j.ask(in, op.Chat, notListedAt)
	default:
		j.say(policy.Deny, "", noSender)
	}
}

// isConversation says that a peer can be a group, whatever the tool calls it:
// imsg decides by the look of a guid, and a group can look direct
// (contracts/imsg.md §5).
func isConversation(p policy.Peer) bool {
	switch p.Kind() {
	case policy.KindChat, policy.KindGroup, policy.KindChannel:
		return true
	}
	return false
}

func contains(peers []policy.Peer, p policy.Peer) bool {
	for _, q := range peers {
		if q == p {
			return true
		}
	}
	return false
}
