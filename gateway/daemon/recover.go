package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/carapace-gateway/carapace/gateway/config"
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
		e.Kind, e.Reason = journal.KindInterrupted, "the gateway stopped before the outcome was known"
		if err := d.letterFor(ctx, e); err != nil {
			return err
		}
		e.Time = ""
		if d.peersHashed {
			// They are hashes already, and a hash of a hash names nobody; the
			// intent of the same id has them.
			e.Peers = nil
		}
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
	if err := d.missingLetters(ctx); err != nil {
		return err
	}
	d.recovered = true
	return d.settle(ctx)
}

// settledFile says how many records of the log, from the first, have had their
// letters written. What became of those letters since (a person purged them,
// newer ones took their place) is no business of a start: without this number
// it would bring them back, without their words, and a client could make it
// take hours by being refused often enough.
const settledFile = "outbox.settled"

// openOutbox opens the outbox. A new one, in place of none or of a damaged one,
// has no letter yet, whatever the one before had.
func (d *Daemon) openOutbox(c *config.Config) (err error) {
	path := filepath.Join(d.opts.State, "outbox.db")
	unsettle := func() error {
		err := os.Remove(filepath.Join(d.opts.State, settledFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	before, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = unsettle()
	}
	if err != nil {
		return err
	}
	if d.outbox, err = journal.OpenOutbox(path, outboxOptions(c, d.log)); err != nil {
		return err
	}
	after, err := os.Lstat(path)
	if err == nil && before != nil && !os.SameFile(before, after) {
		err = unsettle()
	}
	return err
}

// missingLetters makes the letters of the records from the settled one on that
// have none.
func (d *Daemon) missingLetters(ctx context.Context) error {
	const page = 256
	head, _ := d.audit.Head()
	from := d.settledAt()
	if from > head {
		d.log.Warn("the outbox knows of more records than there are; all are looked at", "settled", from, "records", head)
		from = 0
	}
	for {
		events, err := d.audit.Read(from, page)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			return nil
		}
		for _, e := range events {
			if err := d.letterFor(ctx, e); err != nil {
				return err
			}
		}
		from += uint64(len(events))
	}
}

// settledAt reads the number in settledFile. A file that is not there or makes
// no sense means that every record is looked at.
func (d *Daemon) settledAt() uint64 {
	data, err := os.ReadFile(filepath.Join(d.opts.State, settledFile))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// settle makes durable what the outbox has taken and writes down up to which
// record that is everything. A letter is always taken before its record.
func (d *Daemon) settle(ctx context.Context) error {
	d.settling.Lock()
	defer d.settling.Unlock()
	head, _ := d.audit.Head()
	if !d.recovered || d.unkept.Load() || head == d.settled {
		return nil
	}
	if err := d.outbox.Flush(ctx); err != nil {
		return err
	}
	if d.unkept.Load() {
		return nil
	}
	if err := writeDurably(filepath.Join(d.opts.State, settledFile), []byte(strconv.FormatUint(head, 10)+"\n")); err != nil {
		return fmt.Errorf("note that the outbox is complete: %w", err)
	}
	d.settled = head
	return nil
}

// later gives a letter to the outbox. When it is not taken, the next start has
// to make it from its record.
func (d *Daemon) later(l journal.Letter) (string, error) {
	id, err := d.outbox.Later(l)
	if err != nil {
		d.unkept.Store(true)
	}
	return id, err
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
	// In the background, because one sync for each would hold up the start.
	_, err := d.later(l)
	return err
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
