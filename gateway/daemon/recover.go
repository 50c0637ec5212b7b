package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// recover settles what an earlier run left: an intent without an outcome is
// interrupted, a letter that was being sent too, and a record whose letter a
// crash swallowed gets one. Nothing is sent again.
func (d *Daemon) recover(ctx context.Context, found *journal.Recovery) error {
	if found.Torn > 0 {
		d.log.Warn("cut a torn record off the audit log; nobody had been told that it was there", "bytes", found.Torn)
	}
	for _, intent := range found.Unfinished {
		e := intent
		e.Kind, e.Reason, e.Time = journal.KindInterrupted, "the gateway stopped before the outcome was known", ""
		if err := d.audit.Record(ctx, e); err != nil {
			return fmt.Errorf("record an interrupted operation: %w", err)
		}
	}
	if n := len(found.Unfinished); n > 0 {
		d.log.Warn("operations were interrupted; a person decides", "count", n, "hint", "sudo -k carapacectl queue list")
	}
	letters, err := d.outbox.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range letters {
		if l.State == journal.StateSending {
			if err := d.outbox.SetState(ctx, l.ID, journal.StateSending, journal.StateInterrupted); err != nil {
				return err
			}
		}
	}
	return d.missingLetters(ctx)
}

// missingLetters walks the log back to the start record before the one just
// written: only the last run can have left a record without its letter.
func (d *Daemon) missingLetters(ctx context.Context) error {
	const page = 256
	starts := 0
	for head, _ := d.audit.Head(); head > 0 && starts < 2; {
		from := head - min(page, head)
		events, err := d.audit.Read(from, int(head-from))
		if err != nil {
			return err
		}
		for i := len(events) - 1; i >= 0 && starts < 2; i-- {
			e := events[i]
			if e.Kind == journal.KindStart {
				starts++
				continue
			}
			if err := d.letterFor(ctx, e); err != nil {
				return err
			}
		}
		head = from
	}
	return nil
}

// letterFor makes the letter of a record that should have one and has none.
// The words are lost, the fact is not.
func (d *Daemon) letterFor(ctx context.Context, e journal.Event) error {
	states := map[journal.Kind]journal.State{
		journal.KindRefused: journal.StateRefused, journal.KindHeld: journal.StateHeld, journal.KindInterrupted: journal.StateInterrupted,
	}
	state, ok := states[e.Kind]
	// A call that was never understood, and a read, have no letter.
	if !ok || e.Verb == "" || e.Rule == "grammar" || e.Rule == "tool" || !policy.Verb(e.Verb).Effect() {
		return nil
	}
	if has, err := d.outbox.Has(ctx, e.ID); err != nil || has {
		return err
	}
	l := journal.Letter{ID: e.ID, Time: e.Time, Channel: e.Channel, Direction: e.Direction, Verb: e.Verb,
		Reason: e.Reason, Rule: e.Rule, State: state, Digest: e.Digest, Count: 1}
	if state == journal.StateHeld {
		// Without its words there is nothing left to release.
		l.State = journal.StateInterrupted
	}
	for i, p := range e.Peers {
		if i > 0 {
			l.Peer += ", "
		}
		l.Peer += p
	}
	if e.ClientUID != nil {
		l.ClientUID = *e.ClientUID
		l.Client = d.clientName(*e.ClientUID)
	}
	return d.outbox.Add(ctx, l)
}

// restoreRates rebuilds the rate limits from the last window of the log: a
// limit that a restart fills up again is none.
func (d *Daemon) restoreRates() error {
	return d.audit.ReadSince(time.Now().Add(-d.limiter.Window()), func(e journal.Event) error {
		if e.Kind != journal.KindIntent {
			return nil
		}
		at, err := time.Parse(time.RFC3339Nano, e.Time)
		if err != nil {
			return fmt.Errorf("record %d: %w", e.Seq, err)
		}
		var peers []policy.Peer
		for _, text := range e.Peers {
			if p, err := policy.ParsePeer(e.Channel, text, ""); err == nil {
				peers = append(peers, p)
			}
		}
		// A name that is a hash is no peer, and one log has both when a person
		// changed hash_fields: what does not fit names a bucket nobody asks for.
		if d.peersHashed || len(peers) < len(e.Peers) {
			d.limiter.RestoreNamed(e.Channel, e.Peers, at)
			return nil
		}
		d.limiter.Restore(e.Channel, peers, at)
		return nil
	})
}
