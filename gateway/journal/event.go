package journal

import "context"

// Kind says what an audit record is about.
type Kind string

// The kinds of records. Scripts read them (interface §9): never renamed.
const (
	KindStart       Kind = "start"       // the daemon opened the log
	KindStop        Kind = "stop"        // it closed it in order
	KindIntent      Kind = "intent"      // an operation was permitted and is about to happen
	KindOutcome     Kind = "outcome"     // how it ended; same id as its intent
	KindRefused     Kind = "refused"     // an operation was refused
	KindHeld        Kind = "held"        // an operation waits for a person
	KindRead        Kind = "read"        // a client was shown something
	KindInterrupted Kind = "interrupted" // an intent whose outcome nobody knows, found at start
	KindDropped     Kind = "dropped"     // attempts past a uid's limit, counted
	KindAdmin       Kind = "admin"       // a person did something: reload, lock, unlock, queue
)

// Event is one audit record (interface §9). Bodies are never in it: Digest
// stands for them.
type Event struct {
	Seq       uint64   `json:"seq"`  // filled in by the log, from 0, no gaps
	Time      string   `json:"time"` // RFC 3339 with microseconds, UTC; filled in when empty
	Kind      Kind     `json:"kind"`
	ID        string   `json:"id,omitempty"` // one operation's; the dead letter's too
	ClientUID *uint32  `json:"client_uid,omitempty"`
	PID       int32    `json:"pid,omitempty"`
	Channel   string   `json:"channel,omitempty"`
	Direction string   `json:"direction,omitempty"` // "outbound", "inbound"
	Verb      string   `json:"verb,omitempty"`
	Command   string   `json:"command,omitempty"`
	Peers     []string `json:"peers,omitempty"` // hashed when the configuration says so
	Verdict   string   `json:"verdict,omitempty"`
	Rule      string   `json:"rule,omitempty"`
	Reason    string   `json:"reason,omitempty"`
	Opinions  []string `json:"opinions,omitempty"` // what every rule said, "stage:rule:action"
	Exit      *int     `json:"exit,omitempty"`
	Count     int      `json:"count,omitempty"`
	Digest    string   `json:"digest,omitempty"` // keyed hash of peers and body
}

// Sink takes audit records.
type Sink interface {
	// Record returns when the event is durable. An error denies.
	Record(context.Context, Event) error
	// Note takes an event in order and makes it durable within 50 ms. An
	// error means that it was not taken.
	Note(Event) error
}
