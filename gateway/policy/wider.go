package policy

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Wider lists every way in which new permits more than old, in words that name
// channel, peer and verb. An empty answer promises that nothing that old
// refused or held passes new. The converse is not promised: where a comparison
// would have to be clever (two prefixes that together cover a third), the
// change counts as wider. A nil policy permits nothing.
func Wider(old, new *Policy) []string {
	if new == nil {
		return nil
	}
	if old == nil {
		old = &Policy{}
	}
	w := &widening{}
	for _, c := range new.Clients {
		if !slices.Contains(old.Clients, c) {
			w.add("client %s is served", c)
		}
	}
	if old.Region != new.Region {
		w.add("phone numbers without + are read as of region %q, before %q", new.Region, old.Region)
	}
	for _, channel := range slices.Sorted(maps.Keys(new.Owner)) {
		if p := new.Owner[channel]; old.Owner[channel] != p {
			w.add("channel %s: %s may answer for the owner", channel, p)
		}
	}
	w.limit("all channels", old.Global, new.Global)
	w.limit("each peer", old.PerPeer, new.PerPeer)
	w.limit("attempts of each client", old.Attempts, new.Attempts)
	w.patterns(old.Patterns, new.Patterns)
	w.quietHours(old.QuietHours, new.QuietHours)
	for _, name := range slices.Sorted(maps.Keys(new.Channels)) {
		if now := new.Channels[name]; now != nil && now.Enabled {
			w.channel(name, old, new)
		}
	}
	return w.found
}

type widening struct{ found []string }

func (w *widening) add(format string, args ...any) {
	w.found = append(w.found, fmt.Sprintf(format, args...))
}

func (w *widening) channel(name string, oldPolicy, newPolicy *Policy) {
	before, now := oldPolicy.Channels[name], newPolicy.Channels[name]
	oldLimit := Limit{}
	if before == nil || !before.Enabled {
		w.add("channel %s is enabled", name)
		before = &ChannelPolicy{}
	} else {
		oldLimit = oldPolicy.limit(before)
	}
	w.limit("channel "+name, oldLimit, newPolicy.limit(now))
	w.list(name+" outbound", "may be written to", &before.Outbound, &now.Outbound)
	w.list(name+" inbound", "may be heard", &before.Inbound, &now.Inbound)
	if before.GroupSenders == SendersAllowed && now.GroupSenders != SendersAllowed {
		w.add("%s inbound: everybody in a permitted group may be heard", name)
	}
	for _, c := range now.AllowCommands {
		if !slices.Contains(before.AllowCommands, c) && !slices.Contains(now.DenyCommands, c) {
			w.add("%s: command %s is permitted", name, c)
		}
	}
	for _, c := range before.DenyCommands {
		if !slices.Contains(now.DenyCommands, c) {
			w.add("%s: command %s is no longer denied", name, c)
		}
	}
}

// limit returns the limit that counts for a channel.
func (p *Policy) limit(c *ChannelPolicy) Limit {
	if c.Limit != nil {
		return *c.Limit
	}
	return p.Default
}

func (w *widening) list(what, verb string, before, now *List) {
	if now.Mode > Open {
		return // not a mode: List.Judge denies everybody
	}
	if now.Mode > before.Mode || before.Mode > Open {
		w.add("%s: mode %s, before %s: everybody who is not on the deny list %s", what, now.Mode, before.Mode, verb)
	}
	for _, e := range before.Deny {
		if !covered(e.Pattern, now.Deny) {
			w.add("%s: %s is no longer on the deny list", what, e.Pattern)
		}
	}
	if now.Mode != Allowlist || before.Mode == Denylist || before.Mode == Open {
		return
	}
	for _, e := range now.Allow {
		if !covered(e.Pattern, before.Allow) {
			w.add("%s: %s %s", what, e.Pattern, verb)
		}
	}
	if now.Otherwise == Hold && before.Otherwise != Hold {
		w.add("%s: who is on no list is held for a person, before denied", what)
	}
}

func covered(p Pattern, by []Entry) bool {
	return slices.ContainsFunc(by, func(e Entry) bool { return e.Pattern.Covers(p) })
}

func (w *widening) limit(what string, before, now Limit) {
	if !now.permits() {
		return
	}
	switch {
	case !before.permits():
		w.add("%s: %s, before nothing", what, now)
	case now.interval() < before.interval() || now.burst() > before.burst():
		w.add("%s: %s, before %s", what, now, before)
	}
}

func (l Limit) permits() bool { return l.Requests > 0 && l.Per > 0 }

func (l Limit) burst() int {
	if l.Burst > 0 {
		return l.Burst
	}
	return l.Requests
}

// interval is the time after which one more request is permitted, in
// nanoseconds with a fraction: two limits must not look alike because of
// rounding.
func (l Limit) interval() float64 { return float64(l.Per) / float64(l.Requests) }

// Interval returns the time after which one more request is permitted, rounded
// up so that a limit is never exceeded by rounding. It is 0 when the limit
// permits nothing.
func (l Limit) Interval() time.Duration {
	if !l.permits() {
		return 0
	}
	n := time.Duration(l.Requests)
	return l.Per/n + min(l.Per%n, 1)
}

// Capacity returns how many requests the limit permits at once: Burst, or
// Requests when Burst is 0. It is 0 when the limit permits nothing.
func (l Limit) Capacity() int {
	if !l.permits() {
		return 0
	}
	return l.burst()
}

// String returns the limit in words.
func (l Limit) String() string {
	if !l.permits() {
		return "nothing"
	}
	return fmt.Sprintf("%d in %s, at most %d at once", l.Requests, l.Per, l.burst())
}

func (w *widening) patterns(before, now []ContentPattern) {
	for _, b := range before {
		kept := false
		for _, n := range now {
			if n.Direction == b.Direction && n.Action <= b.Action && sameRegexp(n, b) {
				kept = true
				break
			}
		}
		if !kept {
			w.add("content rule %s (%s) is removed, changed or weaker", b.ID, b.Direction)
		}
	}
}

func sameRegexp(a, b ContentPattern) bool {
	return a.Regexp != nil && b.Regexp != nil && a.Regexp.String() == b.Regexp.String()
}

func (w *widening) quietHours(before, now *QuietHours) {
	if before == nil {
		return
	}
	if now == nil {
		w.add("the quiet hours are removed")
		return
	}
	if now.Action > before.Action {
		w.add("in quiet hours: %s, before %s", now.Action, before.Action)
	}
	if now.Zone.String() != before.Zone.String() || !now.spans(before) {
		w.add("the quiet hours no longer cover those of before")
	}
}

// spans reports whether every quiet minute of o is one of q's, in one zone.
func (q *QuietHours) spans(o *QuietHours) bool {
	const day = 24 * 60
	length := (q.To - q.From + day) % day
	start := (o.From - q.From + day) % day
	return start+(o.To-o.From+day)%day <= length
}
