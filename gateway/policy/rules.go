package policy

import (
	"regexp"
	"time"
)

// String returns the word for the action: deny, hold, redact, warn, allow.
func (a Action) String() string {
	switch a {
	case Hold:
		return "hold"
	case Redact:
		return "redact"
	case Warn:
		return "warn"
	case Allow:
		return "allow"
	}
	// Whatever is not an action is handled as the strictest one, and so it is
	// called.
	return "deny"
}

// String returns outbound or inbound.
func (d Direction) String() string {
	if d == Inbound {
		return "inbound"
	}
	return "outbound"
}

// String returns the word for the stage, "none" for a verdict of no rule.
func (s Stage) String() string {
	switch s {
	case StageLock:
		return "lock"
	case StageCommand:
		return "command"
	case StagePeer:
		return "peer"
	case StageContent:
		return "content"
	case StageRate:
		return "rate"
	}
	return "none"
}

// Mode says what a list means for a peer that is not on its deny list. The
// zero Mode is the strictest.
type Mode uint8

// The modes.
const (
	Allowlist Mode = iota // who is on the allow list passes; the others get List.Otherwise
	Denylist              // everybody passes
	Open                  // everybody passes
)

// String returns the mode as the configuration writes it.
func (m Mode) String() string {
	switch m {
	case Denylist:
		return "denylist"
	case Open:
		return "open"
	}
	return "allowlist"
}

// Entry is one line of a list.
type Entry struct {
	Pattern Pattern
	Where   string // where it stands: "config.yaml:31"
}

// List says who may be reached, or heard from, on one channel. The zero List
// permits nobody.
type List struct {
	Mode      Mode
	Allow     []Entry // counts in mode Allowlist only
	Deny      []Entry // counts in every mode and beats Allow
	Otherwise Action  // Deny or Hold, in mode Allowlist; any other value is taken for Deny
	Where     string  // where the list stands
}

// Judge returns what the list says to a peer and where it says so. The zero
// Peer is denied.
func (l *List) Judge(p Peer) (Action, string) {
	if p.IsZero() {
		return Deny, l.Where
	}
	if denied, where := l.Denies(p); denied {
		return Deny, where
	}
	switch l.Mode {
	case Denylist, Open:
		return Allow, l.Where
	case Allowlist:
		for i := range l.Allow {
			if l.Allow[i].Pattern.match(p) {
				return Allow, l.Allow[i].Where
			}
		}
		if l.Otherwise == Hold {
			return Hold, l.Where
		}
	}
	return Deny, l.Where
}

// Denies reports whether the peer is on the deny list, and where.
func (l *List) Denies(p Peer) (bool, string) {
	for i := range l.Deny {
		if l.Deny[i].Pattern.reaches(p) {
			return true, l.Deny[i].Where
		}
	}
	return false, ""
}

// Senders says whose words in a permitted group are shown to a client.
type Senders uint8

// The zero value shows only those whom the inbound list permits.
const (
	SendersAllowed Senders = iota
	SendersAny
)

// Limit is how often something may happen: on average Requests in each Per,
// and at most Burst at once (0 means as many as Requests). The zero Limit
// permits nothing.
type Limit struct {
	Requests int
	Per      time.Duration
	Burst    int
	Where    string
}

// ContentPattern is one rule about words. Regexp matches in linear time (it is
// RE2) and does not match the empty text.
type ContentPattern struct {
	ID        string // in [redacted:ID]
	Regexp    *regexp.Regexp
	Direction Direction
	Action    Action // Deny, Hold, Redact or Warn
	Where     string
}

// QuietHours is a time of day in which nothing is sent. From and To are
// minutes since midnight in Zone; when To is before From it spans midnight.
type QuietHours struct {
	From, To int
	Zone     *time.Location
	Action   Action // Deny or Hold
	Where    string
}

// Quiet reports whether t lies in the quiet hours and how long they last from
// t on.
func (q *QuietHours) Quiet(t time.Time) (bool, time.Duration) {
	local := t.In(q.Zone)
	minute := local.Hour()*60 + local.Minute()
	quiet := minute >= q.From && minute < q.To
	if q.To < q.From {
		quiet = minute >= q.From || minute < q.To
	}
	if !quiet {
		return false, 0
	}
	year, month, day := local.Date()
	if minute >= q.To {
		day++
	}
	end := time.Date(year, month, day, q.To/60, q.To%60, 0, 0, q.Zone)
	return true, max(end.Sub(t), time.Second)
}

// ChannelPolicy is what a person has permitted on one channel. The zero value
// permits nothing.
type ChannelPolicy struct {
	Enabled       bool
	Outbound      List
	Inbound       List
	GroupSenders  Senders
	Limit         *Limit   // nil: Policy.Default
	AllowCommands []string // commands that pass although the channel does not permit them by itself
	DenyCommands  []string // commands that do not pass; beats AllowCommands
	Where         string   // where the channel stands
	AllowWhere    string   // where commands.allow stands
	DenyWhere     string   // where commands.deny stands
}

// Policy is everything that a person has permitted, read from one
// configuration. It is not changed once it is made, and therefore safe for
// concurrent use. The zero Policy permits nothing.
type Policy struct {
	SHA256     string // hex, of the bytes of the configuration
	Region     string // how a phone number without + is read; empty: it is refused
	Clients    []string
	Owner      map[string]Peer // by channel: who may answer questions about held messages
	Global     Limit           // all channels together
	Default    Limit           // each channel that has no limit of its own
	PerPeer    Limit
	Attempts   Limit // per client uid, before anything else is looked at
	Patterns   []ContentPattern
	QuietHours *QuietHours // nil: none
	Channels   map[string]*ChannelPolicy
}

// ChannelNames returns the names of the channels that exist, whether or not a
// configuration enables them, in the order in which they are shown.
func ChannelNames() []string {
	return []string{"loopback", "imessage", "signal", "discord", "gmail"}
}
