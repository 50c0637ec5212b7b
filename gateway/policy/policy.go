// Package policy is the vocabulary of the gate: what somebody wants to do
// (Operation), who takes part in it (Peer), what a rule says to it (Verdict)
// and what a person has permitted (Policy). It is pure data: it does no I/O,
// keeps no state and imports nothing else of ours.
//
// It promises that the zero of everything is the safe one: the zero Action is
// Deny, the zero List permits nobody, the zero Peer matches no pattern, and an
// Operation of an unknown Verb counts as one that has an effect.
//
// It refuses to repair: an identifier that has no canonical form is an error,
// never a guess.
package policy

import (
	"context"
	"log/slog"
	"time"
)

// Action is what a rule wants to happen to an operation. The zero value
// denies; a larger value is more permissive, so the strictest of several is
// the smallest.
type Action uint8

// The actions, strictest first. Towards a client, inbound, Deny is called
// "drop": what is not shown is not announced either.
const (
	Deny   Action = iota // it will not happen
	Hold                 // it waits for a person
	Redact               // it happens, with what was objected to replaced
	Warn                 // it happens, and the record says why it should not have
	Allow                // it happens
)

// Stage is the place of a rule in the fixed order in which rules are asked and
// in which the first objection is named to a client (interface §5: "only the
// first rule in the order lock, command, peer, content, rate is named").
type Stage uint8

// The stages in their order. StageNone is a verdict that no rule gave: the
// fall through an empty list of rules, which denies.
const (
	StageNone Stage = iota
	StageLock
	StageCommand
	StagePeer
	StageContent
	StageRate
)

// Verdict is one rule's opinion of one operation. The zero Verdict denies.
type Verdict struct {
	Action Action
	Stage  Stage
	Rule   string // where it stands: "config.yaml:31", "rate:imessage", "lock"
	Reason string // for a client and for the log: "recipient not on the list"; no list, no pattern, no path
	// RetryAfter is how long the caller should wait before the same operation
	// can pass; only StageRate sets it.
	RetryAfter time.Duration
}

// Rule judges operations. Decide must not block on anything but its own locks,
// must not keep the operation, and must deny when it cannot tell.
type Rule interface {
	Decide(context.Context, *Operation) Verdict
}

// Direction says which way the words of an operation flow.
type Direction uint8

// Outbound is from a client to a peer, Inbound from a peer (or from the tool's
// memory of one) to a client.
const (
	Outbound Direction = iota
	Inbound
)

// Verb is the class of an operation: what it does to the world, whatever the
// tool calls it. The classes are those of contracts/imsg.md §6.
type Verb string

// The verbs. One that is not listed here is treated as having an effect.
const (
	VerbStatus   Verb = "status"   // reads no user data
	VerbList     Verb = "list"     // reads which conversations there are
	VerbRead     Verb = "read"     // reads messages of a conversation
	VerbWatch    Verb = "watch"    // reads messages as they come
	VerbReceive  Verb = "receive"  // one item that came in or came back, to be shown to a client
	VerbSend     Verb = "send"     // reaches a person
	VerbPresence Verb = "presence" // reaches a person without words: typing, read receipts
	VerbMutate   Verb = "mutate"   // changes messages, chats or groups
	VerbAdmin    Verb = "admin"    // changes the account or the tool; denied unless a channel says otherwise
)

// Effect reports whether the operation changes anything outside the gateway
// and therefore needs its intent durable before it starts.
func (v Verb) Effect() bool {
	switch v {
	case VerbStatus, VerbList, VerbRead, VerbWatch, VerbReceive:
		return false
	}
	return true
}

// Text is words of a person. It never shows itself in a log.
type Text string

// LogValue implements slog.LogValuer.
func (Text) LogValue() slog.Value { return slog.StringValue("[text]") }

// File is one file that travels with an operation: bytes that are already in
// the gateway's keeping. Path is inside the gateway's own state and is never
// told to a client.
type File struct {
	Handle string // the client's word for it: "file:3"
	Name   string // base name, as the client gave it, checked
	Size   int64  // bytes
	SHA256 string // hex
	Path   string // where the gateway staged it
}

// Operation is one thing that somebody asks for, in the gateway's own words.
// It is made by a channel's Classify from what a client said, or by its
// Inbound from what a tool said; it is judged by the rules; and the command
// that runs is written from it alone.
type Operation struct {
	Channel   string
	Direction Direction
	Verb      Verb
	Command   string // the tool's own name for it: "send", "history"; what commands.allow and .deny name
	// Default says whether the channel permits the command when the
	// configuration is silent about it (contracts/imsg.md §6, last column).
	// The zero value does not.
	Default bool
	Client  uint32 // kernel uid of the client; filled in by the daemon, never by a channel
	To      []Peer // every peer the words would reach; a send with none is denied
	From    Peer   // inbound: who wrote it; zero when the owner did
	Chat    Peer   // the conversation: a group, or the one peer of a direct chat
	Group   bool   // Chat is a group: one peer, its id, with senders of its own
	Body    []Text // everything a content rule must see
	Files   []File
	Detail  any // the channel's own; comparable with reflect.DeepEqual; never shown to a rule
}

// Peers lists every peer that an operation touches, in a fixed order and
// without zeros: what an audit record and a peer rule must cover.
func (o *Operation) Peers() []Peer {
	var all []Peer
	add := func(p Peer) {
		if p.IsZero() {
			return
		}
		for _, q := range all {
			if q == p {
				return
			}
		}
		all = append(all, p)
	}
	for _, p := range o.To {
		add(p)
	}
	add(o.Chat)
	add(o.From)
	return all
}
