package guard

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

const (
	// maxKeys bounds what a limiter remembers. A key is forgotten as soon as
	// its bucket is full again, so that the bound is met only by a client who
	// reaches this many peers within one window; then nothing new passes.
	maxKeys = 1 << 16
	// windows is how many times the longest time to fill a bucket Restore
	// wants to see. With one, a bucket that was kept empty would look full.
	windows = 4
)

// key names one bucket. An empty peer is the channel's bucket, and an empty
// channel with it the one of all channels.
type key struct {
	channel string
	peer    string
}

// Limiter counts what has an effect: for all channels together, for each
// channel and for each peer of it. An operation passes when every bucket that
// it touches has room, and only then costs anything: what is refused is free,
// so that a client that keeps asking is not locked out for ever.
//
// Each bucket is one integer (GCRA): the theoretical arrival time, the moment
// at which the bucket would be full again. Time is monotonic within a process.
// When the clock is behind the log at start, time is taken as standing in
// between; it never runs back, so that no clock refills a bucket.
type Limiter struct {
	mu     sync.Mutex
	limits limits
	tat    map[key]int64 // nanoseconds since the epoch of clock
	sweep  int           // forget full buckets when there are this many keys
	clock  clock
	name   func(string) string // what the log calls a peer
	cut    int64               // what happened before is not known
}

type limits struct {
	global, perPeer rate
	def             rate
	channels        map[string]rate
}

// rate is a policy.Limit in the terms of GCRA.
type rate struct {
	interval int64 // nanoseconds for one more
	capacity int64 // nanoseconds that a full bucket holds: interval × burst
	where    string
}

func newRate(l policy.Limit) rate {
	interval, burst := int64(l.Interval()), int64(l.Capacity())
	if interval == 0 || burst == 0 {
		return rate{where: l.Where}
	}
	capacity := int64(math.MaxInt64 / 4)
	if burst < capacity/interval {
		capacity = interval * burst
	}
	return rate{interval, capacity, l.Where}
}

// clock is the time since the epoch that never runs back: the wall's at the
// start, the monotonic one's from then on.
type clock struct {
	start time.Time
	base  int64
}

func newClock() clock {
	now := time.Now()
	return clock{start: now, base: now.UnixNano()}
}

func (c *clock) now() int64 { return c.base + int64(time.Since(c.start)) }

// notBefore moves the clock on if it is behind t.
func (c *clock) notBefore(t int64) {
	if behind := t - c.now(); behind > 0 {
		c.base += behind
	}
}

// NewLimiter returns a limiter with every bucket full. A daemon that has run
// before calls Restore for what its log remembers before it serves anybody.
func NewLimiter(p *policy.Policy) *Limiter {
	l := &Limiter{tat: map[key]int64{}, sweep: 1024, clock: newClock(), name: func(peer string) string { return peer }}
	l.Reconfigure(p)
	l.cut = l.clock.now() - int64(l.Window())
	return l
}

// Reconfigure takes the limits of another policy. What was spent stays spent,
// but a bucket is not emptier than empty: what a slower limit took comes back
// as fast as the new one says.
func (l *Limiter) Reconfigure(p *policy.Policy) {
	next := limits{
		global:   newRate(p.Global),
		perPeer:  newRate(p.PerPeer),
		def:      newRate(p.Default),
		channels: map[string]rate{},
	}
	for name, c := range p.Channels {
		if c != nil && c.Limit != nil {
			next.channels[name] = newRate(*c.Limit)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = next
	now := l.clock.now()
	for k, tat := range l.tat {
		l.tat[k] = l.limits.of(k).clamp(tat, now)
	}
}

// of returns the limit that counts for a bucket.
func (l *limits) of(k key) rate {
	switch {
	case k.peer != "":
		return l.perPeer
	case k.channel == "":
		return l.global
	}
	if r, own := l.channels[k.channel]; own {
		return r
	}
	return l.def
}

// Window returns how far back Restore needs to see.
func (l *Limiter) Window() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := max(l.limits.global.capacity, l.limits.perPeer.capacity, l.limits.def.capacity)
	for _, r := range l.limits.channels {
		longest = max(longest, r.capacity)
	}
	return time.Duration(min(longest, math.MaxInt64/(4*windows)) * windows)
}

// Restore puts back one operation that passed earlier, at the time at which it
// did, oldest first, back to Window. Peers are those of Operation.Peers.
//
// What was spent before the window is not known. A bucket that was used at all
// is therefore taken to have been empty at the window's beginning: after a
// restart a limiter never permits what the one before would have refused, and
// gives the same answers as soon as the bucket was full once since then. A
// time later than now moves the limiter's time on.
func (l *Limiter) Restore(channel string, peers []policy.Peer, at time.Time) {
	l.RestoreNamed(channel, l.names(peers), at)
}

// NamePeers tells the limiter that the log does not show a peer but a name
// that f makes of its canonical text (a keyed hash). It is called before
// anything is restored or decided. Log such a peer by its Base, or its other
// spellings have a bucket of their own after a restart.
func (l *Limiter) NamePeers(f func(canonical string) string) { l.name = f }

// RestoreNamed is Restore where the log has only the names of the peers.
func (l *Limiter) RestoreNamed(channel string, names []string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := at.UnixNano()
	l.clock.notBefore(t)
	l.each(channel, names, func(k key, r rate) {
		tat, known := l.tat[k]
		if !known {
			if l.full(t) {
				return
			}
			tat = min(l.cut, t) + r.capacity
		}
		l.tat[k] = r.clamp(max(tat, t)+r.interval, t)
	})
}

// each calls f for every bucket that an operation touches, widest first.
func (l *Limiter) each(channel string, names []string, f func(key, rate)) {
	f(key{}, l.limits.global)
	k := key{channel: channel}
	f(k, l.limits.of(k))
	for _, name := range names {
		f(key{channel, name}, l.limits.perPeer)
	}
}

// names returns the name of each conversation among peers, once.
func (l *Limiter) names(peers []policy.Peer) []string {
	names := make([]string, 0, 4)
	for _, p := range peers {
		if p.IsZero() {
			continue
		}
		if name := l.name(p.Base().String()); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// verdict judges one operation, and pays for it when spend is set and every
// bucket has room.
func (l *Limiter) verdict(channel string, peers []policy.Peer, spend bool) policy.Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.verdictAt(l.clock.now(), channel, peers, spend)
}

// verdictAt is verdict at a time that does not run back. The lock is held.
func (l *Limiter) verdictAt(now int64, channel string, peers []policy.Peer, spend bool) policy.Verdict {
	v := policy.Verdict{Action: policy.Allow, Stage: policy.StageRate, Reason: "within the rate", Rule: "rate:" + channel}
	names, unseen := l.names(peers), 0
	l.each(channel, names, func(k key, r rate) {
		tat, known := l.tat[k]
		if !known {
			unseen++
		}
		wait, ok := r.wait(tat, now)
		if !ok && (v.Action == policy.Allow || wait > v.RetryAfter) {
			v = policy.Verdict{Action: policy.Deny, Stage: policy.StageRate, Rule: k.rule(r), Reason: "too many messages", RetryAfter: wait}
		}
	})
	if v.Action != policy.Allow || !spend {
		return v
	}
	if len(l.tat)+unseen > maxKeys && !l.room(now, unseen) {
		return policy.Verdict{Stage: policy.StageRate, Rule: "rate:peers", Reason: "too many recipients", RetryAfter: time.Second}
	}
	l.each(channel, names, func(k key, r rate) {
		l.tat[k] = max(l.tat[k], now) + r.interval
	})
	if len(l.tat) >= l.sweep {
		l.room(now, 0)
		l.sweep = max(1024, 2*len(l.tat))
	}
	return v
}

// clamp returns what is left of a bucket that another limit has filled and
// emptied so far.
func (r rate) clamp(tat, now int64) int64 {
	if r.interval == 0 {
		return tat
	}
	return min(tat, now+r.capacity)
}

// wait returns how long a bucket needs until it has room, and whether it has
// room now.
func (r rate) wait(tat, now int64) (time.Duration, bool) {
	if r.interval == 0 {
		return 0, false
	}
	wait := max(tat, now) + r.interval - (now + r.capacity)
	return time.Duration(max(wait, 0)), wait <= 0
}

func (k key) rule(r rate) string {
	switch {
	case r.where != "":
		return r.where
	case k.channel == "":
		return "rate:global"
	case k.peer == "":
		return "rate:" + k.channel
	}
	return "rate:peer"
}

// full says whether no new key can be remembered.
func (l *Limiter) full(now int64) bool { return len(l.tat) >= maxKeys && !l.room(now, 1) }

// room forgets every bucket that is full again and says whether n new keys fit
// then.
func (l *Limiter) room(now int64, n int) bool {
	for k, tat := range l.tat {
		if tat <= now {
			delete(l.tat, k)
		}
	}
	return len(l.tat)+n <= maxKeys
}
