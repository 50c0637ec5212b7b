package guard

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tokens "golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// limitsOnly is a policy that says nothing but how often.
func limitsOnly(global, channel, perPeer policy.Limit) *policy.Policy {
	return &policy.Policy{Global: global, Default: channel, PerPeer: perPeer, Channels: map[string]*policy.ChannelPolicy{}}
}

func phones(t testing.TB, numbers ...int) []policy.Peer {
	var all []policy.Peer
	for _, n := range numbers {
		all = append(all, peer(t, "imessage", fmt.Sprintf("+1415555%04d", n)))
	}
	return all
}

// drawLimit makes limits whose interval is a whole number of milliseconds, so
// that neither side of a comparison rounds.
func drawLimit(t *rapid.T, label string) policy.Limit {
	n := rapid.IntRange(1, 8).Draw(t, label+" requests")
	interval := time.Duration(rapid.IntRange(1, 3000).Draw(t, label+" interval")) * time.Millisecond
	return policy.Limit{Requests: n, Per: time.Duration(n) * interval, Burst: rapid.IntRange(0, 10).Draw(t, label+" burst")}
}

// The oracle is a tree of the token buckets of golang.org/x/time/rate, asked
// in the same way: all must have a token, then each loses one.
func TestLimiterAgreesWithTokenBuckets(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := limitsOnly(drawLimit(rt, "global"), drawLimit(rt, "channel"), drawLimit(rt, "peer"))
		own := drawLimit(rt, "own")
		p.Channels["signal"] = &policy.ChannelPolicy{Limit: &own}
		l := NewLimiter(p)
		buckets := map[string]*tokens.Limiter{}
		bucket := func(name string, limit policy.Limit) *tokens.Limiter {
			if buckets[name] == nil {
				buckets[name] = tokens.NewLimiter(tokens.Every(limit.Interval()), limit.Capacity())
			}
			return buckets[name]
		}
		now := l.clock.now()
		for range rapid.IntRange(1, 60).Draw(rt, "operations") {
			now += int64(rapid.IntRange(0, 2000).Draw(rt, "pause")) * int64(time.Millisecond)
			channel := rapid.SampledFrom([]string{"imessage", "signal"}).Draw(rt, "channel")
			peers := phones(t, rapid.SliceOfNDistinct(rapid.IntRange(1, 3), 0, 2, rapid.ID).Draw(rt, "peers")...)

			channelLimit := p.Default
			if channel == "signal" {
				channelLimit = own
			}
			all := []*tokens.Limiter{bucket("", p.Global), bucket(channel, channelLimit)}
			for _, q := range peers {
				all = append(all, bucket(channel+q.String(), p.PerPeer))
			}
			at := time.Unix(0, now)
			want, close := true, false
			for _, b := range all {
				has := b.TokensAt(at)
				want = want && has >= 1
				// The oracle counts in floating point.
				close = close || math.Abs(has-1) < 1e-6
			}
			got := l.verdictAt(now, channel, peers, true).Action == policy.Allow
			if got != want && !close {
				rt.Fatalf("after %s: %t; the buckets say %t", time.Duration(now), got, want)
			}
			if got {
				for _, b := range all {
					b.ReserveN(at, 1)
				}
			}
		}
	})
}

func TestRefusalSpendsNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := NewLimiter(limitsOnly(drawLimit(rt, "global"), drawLimit(rt, "channel"), drawLimit(rt, "peer")))
		now := l.clock.now()
		for range 50 {
			now += int64(rapid.IntRange(0, 500).Draw(rt, "pause")) * int64(time.Millisecond)
			peers := phones(t, rapid.IntRange(1, 3).Draw(rt, "peer"))
			before := maps.Clone(l.tat)
			v := l.verdictAt(now, "imessage", peers, true)
			if v.Action == policy.Allow {
				if len(l.tat) < 3 {
					rt.Fatalf("a permitted operation cost %d tokens", len(l.tat))
				}
				continue
			}
			if !maps.Equal(before, l.tat) {
				rt.Fatalf("a refusal changed %v to %v", before, l.tat)
			}
			// The wait that is told is exact.
			if v.RetryAfter <= 0 || l.verdictAt(now+int64(v.RetryAfter)-1, "imessage", peers, false).Action == policy.Allow {
				rt.Fatalf("%s is too long to wait", v.RetryAfter)
			}
			if w := l.verdictAt(now+int64(v.RetryAfter), "imessage", peers, false); w.Action != policy.Allow {
				rt.Fatalf("after %s still: %+v", v.RetryAfter, w)
			}
		}
	})
}

// Defect f of the original: its limit counted refused attempts too, so that an
// agent which kept trying was locked out for ever; and one limit was for
// everybody, so that one busy conversation silenced the others.
func TestOriginDefectF_AskingIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := rules(t)
		p.PerPeer = policy.Limit{Requests: 2, Per: time.Minute, Where: "per_peer"}
		p.Channels["imessage"].Outbound.Allow = append(p.Channels["imessage"].Outbound.Allow, entries(t, "imessage", "allow", carl)...)
		g := guardOf(p)
		for i := range 2 {
			if d := g.Decide(t.Context(), send(t, bob)); d.Action != policy.Allow {
				t.Fatalf("message %d: %+v", i, d.Verdict)
			}
		}
		for range 300 { // ten a second, for the half minute that one more takes
			d := g.Decide(t.Context(), send(t, bob))
			if d.Action != policy.Deny || d.Stage != policy.StageRate || d.Rule != "per_peer" || d.RetryAfter <= 0 {
				t.Fatalf("the third message: %+v", d.Verdict)
			}
			if d := g.Decide(t.Context(), send(t, eve)); d.Action != policy.Deny || d.Told.Stage != policy.StagePeer {
				t.Fatalf("a message to eve: %+v", d.Told)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if d := g.Decide(t.Context(), send(t, bob)); d.Action != policy.Allow {
			t.Errorf("after half a minute of asking: %+v", d.Verdict)
		}
		if d := g.Decide(t.Context(), send(t, carl)); d.Action != policy.Allow {
			t.Errorf("another conversation: %+v", d.Verdict)
		}
	})
}

func TestLimiterZeroPermitsNothing(t *testing.T) {
	for name, p := range map[string]*policy.Policy{
		"all":     {},
		"global":  limitsOnly(policy.Limit{}, plenty, plenty),
		"channel": limitsOnly(plenty, policy.Limit{}, plenty),
		"peer":    limitsOnly(plenty, plenty, policy.Limit{}),
	} {
		if v := NewLimiter(p).verdict("imessage", phones(t, 1), true); v.Action != policy.Deny {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestLimiterRules(t *testing.T) {
	one := policy.Limit{Requests: 1, Per: time.Hour}
	for want, p := range map[string]*policy.Policy{
		"rate:global":   limitsOnly(one, plenty, plenty),
		"rate:imessage": limitsOnly(plenty, one, plenty),
		"rate:peer":     limitsOnly(plenty, plenty, one),
	} {
		l := NewLimiter(p)
		l.verdict("imessage", phones(t, 1), true)
		if v := l.verdict("imessage", phones(t, 1), true); v.Rule != want {
			t.Errorf("%+v; want rule %s", v, want)
		}
	}
}

// One group has several spellings, and one bucket.
func TestLimiterCountsAGroupOnce(t *testing.T) {
	l := NewLimiter(limitsOnly(plenty, plenty, policy.Limit{Requests: 2, Per: time.Hour}))
	spellings := []policy.Peer{peer(t, "imessage", "iMessage;+;chat7"), peer(t, "imessage", "any;+;chat7"), peer(t, "imessage", "SMS;+;CHAT7")}
	if v := l.verdict("imessage", spellings, true); v.Action != policy.Allow {
		t.Fatalf("%+v", v)
	}
	if v := l.verdict("imessage", spellings[:1], true); v.Action != policy.Allow {
		t.Errorf("the second message: %+v", v)
	}
	if v := l.verdict("imessage", spellings[2:], true); v.Action != policy.Deny {
		t.Errorf("the third message, in another spelling: %+v", v)
	}
}

// spent is one operation that passed.
type spent struct {
	channel string
	peers   []policy.Peer
	at      int64
}

// A limiter that is restored from the log is never more generous than the one
// that wrote it, and the same as soon as a bucket was full within the window.
func TestRestore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := limitsOnly(drawLimit(rt, "global"), drawLimit(rt, "channel"), drawLimit(rt, "peer"))
		live := NewLimiter(p)
		busy := rapid.Bool().Draw(rt, "busy")
		// A quiet history begins after everything unknown has run out.
		now := live.clock.now()
		start := now
		var log []spent
		for range rapid.IntRange(1, 80).Draw(rt, "operations") {
			now += int64(rapid.IntRange(0, 3000).Draw(rt, "pause")) * int64(time.Millisecond)
			s := spent{rapid.SampledFrom([]string{"imessage", "signal"}).Draw(rt, "channel"), phones(t, rapid.IntRange(1, 2).Draw(rt, "peer")), now}
			if live.verdictAt(now, s.channel, s.peers, true).Action == policy.Allow {
				log = append(log, s)
			}
		}
		again := NewLimiter(p)
		again.clock.notBefore(now)
		again.cut = now - int64(again.Window())
		if !busy {
			again.cut = start - int64(again.Window())
		}
		for _, s := range log {
			if s.at >= again.cut {
				again.Restore(s.channel, s.peers, time.Unix(0, s.at))
			}
		}
		for k, tat := range live.tat {
			if got := again.tat[k]; tat > now && got < tat {
				rt.Fatalf("%v: restored to %s before what was spent", k, time.Duration(tat-got))
			} else if !busy && got != tat {
				rt.Fatalf("%v: restored %s off", k, time.Duration(got-tat))
			}
		}
		if busy {
			return
		}
		for range 20 {
			now += int64(rapid.IntRange(0, 3000).Draw(rt, "pause")) * int64(time.Millisecond)
			channel, peers := rapid.SampledFrom([]string{"imessage", "signal"}).Draw(rt, "channel"), phones(t, rapid.IntRange(1, 3).Draw(rt, "peer"))
			if a, b := live.verdictAt(now, channel, peers, true), again.verdictAt(now, channel, peers, true); a != b {
				rt.Fatalf("before the restart %+v, after it %+v", a, b)
			}
		}
	})
}

// Where the log has only hashes of peers, what was spent is found by them, and
// by one hash for all spellings of a group.
func TestRestoreNamed(t *testing.T) {
	p := limitsOnly(plenty, plenty, policy.Limit{Requests: 3, Per: time.Hour})
	hash := func(canonical string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(canonical))) }
	l := NewLimiter(p)
	l.NamePeers(hash)
	chat, same := peer(t, "imessage", "iMessage;+;chat7"), peer(t, "imessage", "SMS;+;chat7")
	for range 3 {
		l.RestoreNamed("imessage", []string{hash(chat.Base().String())}, time.Now())
	}
	for _, q := range []policy.Peer{chat, same} {
		if v := l.verdict("imessage", []policy.Peer{q}, true); v.Action != policy.Deny {
			t.Errorf("%s after three messages before the restart: %+v", q, v)
		}
	}
	if v := l.verdict("imessage", phones(t, 1), true); v.Action != policy.Allow {
		t.Errorf("another peer: %+v", v)
	}
}

// An agent that sends as fast as it may, for hours, must not find a full
// bucket because somebody restarted the gateway: one window of the log alone
// would show a bucket that fills as fast as it empties.
func TestRestoreOfASaturatedBucket(t *testing.T) {
	limit := policy.Limit{Requests: 10, Per: time.Minute}
	l := NewLimiter(limitsOnly(plenty, plenty, limit))
	now := l.clock.now()
	for at := now - int64(l.Window()); at < now; at += int64(6 * time.Second) {
		l.Restore("imessage", phones(t, 1), time.Unix(0, at))
	}
	passed := 0
	for range 10 {
		if l.verdictAt(now, "imessage", phones(t, 1), true).Action == policy.Allow {
			passed++
		}
	}
	if passed > 1 {
		t.Errorf("%d messages pass at once after a restart; want at most 1", passed)
	}
}

// A clock that went back is taken as standing: what the log says of a time to
// come was spent just now.
func TestRestoreFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := policy.Limit{Requests: 10, Per: time.Minute}
		l := NewLimiter(limitsOnly(plenty, plenty, limit))
		for range 10 {
			l.Restore("imessage", phones(t, 1), time.Now().Add(1000*time.Hour))
		}
		v := l.verdict("imessage", phones(t, 1), true)
		if v.Action != policy.Deny || v.RetryAfter != 6*time.Second {
			t.Errorf("at once: %+v; want a wait of 6 s", v)
		}
		time.Sleep(6 * time.Second)
		if v := l.verdict("imessage", phones(t, 1), true); v.Action != policy.Allow {
			t.Errorf("after 6 s: %+v", v)
		}
		if v := l.verdict("imessage", phones(t, 1), true); v.Action != policy.Deny {
			t.Errorf("after 6 s, twice: %+v", v)
		}
	})
}

func TestReconfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := limitsOnly(plenty, plenty, policy.Limit{Requests: 2, Per: time.Hour})
		l := NewLimiter(slow)
		allow := func(want bool, when string) {
			t.Helper()
			if v := l.verdict("imessage", phones(t, 1), true); (v.Action == policy.Allow) != want {
				t.Errorf("%s: %+v", when, v)
			}
		}
		allow(true, "first")
		allow(true, "second")
		allow(false, "third")
		l.Reconfigure(slow)
		allow(false, "the same limits again")
		l.Reconfigure(limitsOnly(plenty, plenty, policy.Limit{Requests: 2, Per: 2 * time.Second}))
		allow(false, "a faster limit, at once")
		time.Sleep(time.Second)
		allow(true, "a faster limit, after its interval")
		own := policy.Limit{Requests: 1, Per: time.Hour}
		next := limitsOnly(plenty, plenty, plenty)
		next.Channels["imessage"] = &policy.ChannelPolicy{Limit: &own}
		l.Reconfigure(next)
		allow(false, "a channel's own limit, with what the channel spent")
		time.Sleep(time.Hour)
		allow(true, "after an hour")
		allow(false, "after an hour, twice")
		if got := l.Window(); got != 4*time.Hour {
			t.Errorf("the window is %s; want 4h", got)
		}
	})
}

func TestLimiterForgets(t *testing.T) {
	l := NewLimiter(limitsOnly(policy.Limit{Requests: 1000000, Per: time.Second}, policy.Limit{Requests: 1000000, Per: time.Second}, policy.Limit{Requests: 10, Per: time.Minute}))
	now := l.clock.now()
	for i := range 5000 {
		now += int64(10 * time.Second)
		l.verdictAt(now, "imessage", phones(t, i), true)
	}
	if len(l.tat) > 1100 {
		t.Errorf("%d keys are remembered of people who could be written to at once again", len(l.tat))
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l := NewLimiter(limitsOnly(plenty, plenty, policy.Limit{Requests: 10, Per: time.Minute}))
	now := l.clock.now()
	for i := range maxKeys + 10 {
		l.tat[key{channel: fmt.Sprint(i)}] = now + int64(time.Minute)
	}
	known := len(l.tat)
	if v := l.verdictAt(now, "imessage", phones(t, 1), true); v.Action != policy.Deny || v.Rule != "rate:peers" || len(l.tat) != known {
		t.Errorf("a new peer beyond the bound: %+v, %d keys", v, len(l.tat))
	}
	l.Restore("imessage", phones(t, 2), time.Unix(0, now))
	if len(l.tat) != known {
		t.Errorf("restoring goes beyond the bound: %d keys", len(l.tat))
	}
	if v := l.verdictAt(now+int64(2*time.Minute), "imessage", phones(t, 1), true); v.Action != policy.Allow || len(l.tat) != 3 {
		t.Errorf("when the others are full again: %+v, %d keys", v, len(l.tat))
	}
}

func TestDecideConcurrently(t *testing.T) {
	p := rules(t)
	p.PerPeer = policy.Limit{Requests: 50, Per: 24 * time.Hour}
	g := guardOf(p)
	var passed atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		op := send(t, bob)
		wg.Go(func() {
			for range 50 {
				if g.Decide(context.Background(), op).Action == policy.Allow {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if passed.Load() != 50 {
		t.Errorf("%d messages passed; the limit is 50", passed.Load())
	}
}

func TestAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAttempts(policy.Limit{Requests: 20, Per: time.Second, Burst: 100})
		passed := func(uid uint32, n int) (ok int, wait time.Duration) {
			for range n {
				admitted, retry := a.Admit(uid)
				if admitted {
					ok++
				} else {
					wait = retry
				}
			}
			return ok, wait
		}
		if ok, wait := passed(1000, 150); ok != 100 || wait != 50*time.Millisecond {
			t.Errorf("%d of 150 attempts pass, then wait %s; want 100, then 50ms", ok, wait)
		}
		if ok, _ := passed(1001, 10); ok != 10 {
			t.Errorf("another user: %d of 10 pass", ok)
		}
		if got := a.Dropped(); !maps.Equal(got, map[uint32]int{1000: 50}) {
			t.Errorf("dropped %v", got)
		}
		if got := a.Dropped(); len(got) != 0 {
			t.Errorf("dropped since then %v", got)
		}
		time.Sleep(time.Second)
		if ok, _ := passed(1000, 30); ok != 20 {
			t.Errorf("a second later %d of 30 pass; want 20", ok)
		}
		a.Reconfigure(policy.Limit{})
		if ok, wait := passed(1001, 5); ok != 0 || wait != 0 {
			t.Errorf("a limit of nothing lets %d pass, or says to wait %s", ok, wait)
		}
	})
}
