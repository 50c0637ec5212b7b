package journal

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// State is where a letter stands.
type State string

// The states of interface §9, and sending, which lasts as long as a dispatch.
const (
	StateHeld        State = "held"        // waits for a person
	StateRefused     State = "refused"     // did not happen
	StateInterrupted State = "interrupted" // nobody knows whether it happened
	StateApproved    State = "approved"    // a person said yes; not begun yet
	StateRejected    State = "rejected"    // a person said no
	StateSent        State = "sent"        // a person said yes, and it happened
	StateExpired     State = "expired"     // waited for too long
	StateSending     State = "sending"     // is being dispatched
)

// known reports whether s is a state at all.
func (s State) known() bool {
	switch s {
	case StateHeld, StateRefused, StateInterrupted, StateApproved, StateRejected, StateSent, StateExpired, StateSending:
		return true
	}
	return false
}

// waits reports whether a letter in this state still has something before it:
// such a letter gives way to no other.
func (s State) waits() bool { return s == StateHeld || s == StateApproved || s == StateSending }

// waiting is the same for SQL.
const waiting = `state IN ('held', 'approved', 'sending')`

// Letter is one held, refused or interrupted operation (interface §9).
type Letter struct {
	ID        string `json:"id"`   // 1 to 64 letters, digits, dots, dashes
	Time      string `json:"time"` // RFC 3339 with microseconds, UTC; filled in when empty; of the newest when folded
	Channel   string `json:"channel"`
	Direction string `json:"direction"`
	Verb      string `json:"verb"`
	Peer      string `json:"peer"`
	Reason    string `json:"reason"`
	Rule      string `json:"rule"`
	State     State  `json:"state"`
	Client    string `json:"client"` // user name, or uid in digits
	ClientUID uint32 `json:"client_uid"`
	Digest    string `json:"digest"` // Audit.Digest of peers and body; refusals without one are never folded
	Count     int    `json:"count"`  // how often it was refused; at least 1
	Body      string `json:"body,omitempty"`
	Operation []byte `json:"operation,omitempty"` // opaque; for a later release
}

// Errors of the outbox that somebody tests for.
var (
	ErrNotFound     = errors.New("no such letter")
	ErrAmbiguous    = errors.New("more than one letter starts with that")
	ErrExists       = errors.New("there is a letter with that id already")
	ErrWrongState   = errors.New("the letter is not in that state")
	ErrFull         = errors.New("too many letters wait for a person")
	ErrOutboxClosed = errors.New("the outbox is closed")
)

// The bounds of a letter, in bytes. A refused one may be as many times as a
// client likes, so less of it is kept.
const (
	maxBody        = 1 << 20
	maxOperation   = 4 << 20
	maxRefusedBody = 64 << 10
	maxRefusedOp   = 64 << 10
)

// clean checks l and brings it to what is stored.
func (l Letter) clean(keepContent bool) (Letter, error) {
	if !validID(l.ID) {
		return l, fmt.Errorf("letter with the id %q: not 1 to %d letters, digits, dots and dashes", cut(l.ID, maxName), maxName)
	}
	if !l.State.known() {
		return l, fmt.Errorf("letter %s with the state %q", l.ID, cut(string(l.State), maxName))
	}
	t := time.Now()
	if l.Time != "" {
		var err error
		if t, err = time.Parse(time.RFC3339Nano, l.Time); err != nil || t.UTC().Year() < 0 || t.UTC().Year() > 9999 {
			return l, fmt.Errorf("letter %s with the time %q: not RFC 3339", l.ID, cut(l.Time, maxName))
		}
	}
	l.Time = t.UTC().Format(timeForm)
	l.Count = max(l.Count, 1)
	for _, s := range []*string{&l.Channel, &l.Direction, &l.Verb, &l.Client} {
		*s = cut(*s, maxName)
	}
	for _, s := range []*string{&l.Peer, &l.Reason, &l.Rule, &l.Digest} {
		*s = cut(*s, maxText)
	}
	body, op := maxBody, maxOperation
	if !l.State.waits() {
		body, op = maxRefusedBody, maxRefusedOp
		if len(l.Operation) > op {
			l.Operation = nil
		}
	}
	if len(l.Operation) > op {
		return l, fmt.Errorf("letter %s: its operation has %d bytes, at most %d are kept", l.ID, len(l.Operation), op)
	}
	l.Body = cut(l.Body, body)
	if !keepContent {
		l.Body, l.Operation = "", nil
	}
	return l, nil
}

// validID reports whether s can be the id of a letter: nothing that would be
// special in a path, a query or a terminal.
func validID(s string) bool {
	return s != "" && len(s) <= maxName && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-") == ""
}
