package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// counts are what the bounds are about.
type counts struct {
	total   int
	waiting int
	bytes   int64 // of bodies and operations
}

// queryer is a database or a transaction.
type queryer interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

func count(ctx context.Context, q queryer) (c counts, err error) {
	err = q.QueryRowContext(ctx, `SELECT count(*), count(CASE WHEN `+waiting+` THEN 1 END), coalesce(sum(size), 0) FROM letters`).
		Scan(&c.total, &c.waiting, &c.bytes)
	return c, err
}

// work is one transaction.
type work struct {
	ctx     context.Context
	tx      *sql.Tx
	options OutboxOptions
	counts  counts
	most    int64 // bytes
	after   []func(*Outbox)
}

// storeError is SQLite's own failure: the whole transaction is void. Any other
// error of an operation is its answer.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

func (w *work) exec(query string, args ...any) (int, error) {
	res, err := w.tx.ExecContext(w.ctx, query, args...)
	if err != nil {
		return 0, &storeError{err}
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, &storeError{err}
	}
	return int(n), nil
}

// insert writes a new letter, and makes room for it.
func (w *work) insert(l *Letter) error {
	size := int64(len(l.Body) + len(l.Operation))
	if l.State.waits() && w.counts.waiting >= w.options.Max {
		return ErrFull
	}
	var taken bool
	if err := w.tx.QueryRowContext(w.ctx, `SELECT EXISTS (SELECT 1 FROM letters WHERE id = ?)`, l.ID).Scan(&taken); err != nil {
		return &storeError{err}
	}
	if taken {
		return ErrExists
	}
	if err := w.makeRoom(1, size); err != nil {
		return err
	}
	_, err := w.exec(`INSERT INTO letters (id, time, changed, channel, direction, verb, peer, reason, rule, state,
		client, client_uid, digest, count, size, body, operation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		l.ID, l.Time, l.Time, l.Channel, l.Direction, l.Verb, l.Peer, l.Reason, l.Rule, string(l.State),
		l.Client, int64(l.ClientUID), l.Digest, l.Count, size, l.Body, l.Operation)
	if err != nil {
		return err
	}
	w.counts.total++
	w.counts.bytes += size
	if l.State.waits() {
		w.counts.waiting++
	}
	if l.State == StateRefused && l.Digest != "" {
		id, key := l.ID, l.refusal()
		w.after = append(w.after, func(o *Outbox) { o.folds[key], o.folded[id] = id, key })
	}
	return nil
}

// fold counts a refusal on the letter with its id. If that one is gone by now,
// the refusal becomes a letter of its own: its id was told to somebody.
func (w *work) fold(l *Letter) error {
	n, err := w.exec(`UPDATE letters SET count = count + ?, time = max(time, ?), changed = max(changed, ?) WHERE id = ?`,
		l.Count, l.Time, l.Time, l.ID)
	if err != nil || n > 0 {
		return err
	}
	return w.insert(l)
}

// makeRoom deletes the oldest letters that wait for nobody, refused ones
// first, until n more letters of so many bytes fit.
func (w *work) makeRoom(n int, bytes int64) error {
	for w.counts.total+n > w.options.Max || w.counts.bytes+bytes > w.most {
		gone, err := w.delete(`n = (SELECT n FROM letters WHERE state = 'refused' ORDER BY changed, n LIMIT 1)`)
		if err == nil && gone == 0 {
			gone, err = w.delete(`n = (SELECT n FROM letters WHERE NOT ` + waiting + ` ORDER BY changed, n LIMIT 1)`)
		}
		if err != nil {
			return err
		}
		if gone == 0 {
			return ErrFull
		}
	}
	return nil
}

// delete deletes what where says.
func (w *work) delete(where string, args ...any) (int, error) {
	rows, err := w.tx.QueryContext(w.ctx, `DELETE FROM letters WHERE `+where+` RETURNING id, state, size`, args...)
	if err != nil {
		return 0, &storeError{err}
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var id, state string
		var size int64
		if err := rows.Scan(&id, &state, &size); err != nil {
			return n, &storeError{err}
		}
		n++
		w.counts.total--
		w.counts.bytes -= size
		if State(state).waits() {
			w.counts.waiting--
		}
		w.unfold(id)
	}
	if err := rows.Err(); err != nil {
		return n, &storeError{err}
	}
	return n, nil
}

// unfold: nothing is folded into this letter any more.
func (w *work) unfold(id string) {
	w.after = append(w.after, func(o *Outbox) {
		if key, ok := o.folded[id]; ok {
			delete(o.folded, id)
			if o.folds[key] == id {
				delete(o.folds, key)
			}
		}
	})
}

func (w *work) setState(id string, from, to State) error {
	now := time.Now().UTC().Format(timeForm)
	n, err := w.exec(`UPDATE letters SET state = ?, changed = max(changed, ?) WHERE id = ? AND state = ?`, string(to), now, id, string(from))
	if err != nil {
		return err
	}
	if n == 0 {
		var is string
		err := w.tx.QueryRowContext(w.ctx, `SELECT state FROM letters WHERE id = ?`, id).Scan(&is)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return &storeError{err}
		}
		return fmt.Errorf("%w: it is %s, not %s", ErrWrongState, is, from)
	}
	if from.waits() {
		w.counts.waiting--
	}
	if to.waits() {
		w.counts.waiting++
	}
	w.unfold(id)
	return nil
}

func (w *work) purge(id string) (int, error) {
	if id == "" {
		return w.delete(`NOT ` + waiting)
	}
	n, err := w.delete(`id = ? AND state != 'sending'`, id)
	if err != nil || n > 0 {
		return n, err
	}
	var is string
	err = w.tx.QueryRowContext(w.ctx, `SELECT state FROM letters WHERE id = ?`, id).Scan(&is)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("%w: %s", ErrNotFound, cut(id, maxName))
	}
	if err != nil {
		return 0, &storeError{err}
	}
	return 0, fmt.Errorf("%w: it is being sent", ErrWrongState)
}

func (w *work) expire(now time.Time) (int, error) {
	limit := now.Add(-w.options.Retain).UTC().Format(timeForm)
	gone, err := w.delete(`NOT `+waiting+` AND changed < ?`, limit)
	if err != nil {
		return 0, err
	}
	late, err := w.exec(`UPDATE letters SET state = 'expired', changed = max(changed, ?) WHERE state IN ('held', 'approved') AND time < ?`,
		now.UTC().Format(timeForm), limit)
	if err != nil {
		return 0, err
	}
	w.counts.waiting -= late
	before := w.counts.total
	if err := w.makeRoom(0, 0); err != nil && !errors.Is(err, ErrFull) {
		return 0, err
	}
	return gone + late + before - w.counts.total, nil
}

// write is the writer.
func (o *Outbox) write() {
	defer close(o.ended)
	var retry <-chan time.Time
	for {
		select {
		case <-o.wake:
		case <-retry:
		case <-o.quit:
			for o.commit() {
			}
			return
		}
		o.gather()
		for o.commit() {
		}
		if retry = nil; len(o.kept) > 0 {
			retry = time.After(retryDelay)
		}
	}
}

// gather waits for company when nobody is in a hurry.
func (o *Outbox) gather() {
	o.mu.Lock()
	hurry := len(o.queue) == 0 || len(o.queue) >= laterMax
	for _, p := range o.queue {
		hurry = hurry || p.done != nil
	}
	o.mu.Unlock()
	if hurry {
		return
	}
	t := time.NewTimer(laterDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-o.hurry:
	case <-o.quit:
	}
}

// commit runs the operations at the front of the queue in one transaction, and
// each in one of its own if that fails. It reports whether there are more.
func (o *Outbox) commit() bool {
	o.mu.Lock()
	n := min(len(o.queue), batchOps)
	ops := append(o.kept, o.queue[:n:n]...)
	o.queue = o.queue[n:]
	more := len(o.queue) > 0
	close(o.room)
	o.room = make(chan struct{})
	options := o.options
	o.mu.Unlock()
	o.kept = nil
	if len(ops) == 0 {
		return false
	}

	var err error
	o.kept, err = o.run(options, ops)
	o.mu.Lock()
	o.stalled = nil
	if len(o.kept) > 0 {
		o.stalled = fmt.Errorf("letters cannot be written: %w", err)
	}
	o.mu.Unlock()
	// Only now: who is told how it went finds the outbox in the state that
	// follows from it.
	for _, p := range ops {
		if p.done != nil {
			p.done <- p.answer
		}
	}
	if err != nil && !o.warned {
		options.Log.Error("the outbox cannot be written", "error", err)
	} else if err == nil && o.warned {
		options.Log.Info("the outbox can be written again")
	}
	o.warned = err != nil
	return more
}

// run runs ops and notes the answers for those who wait. It returns the
// letters that are to be tried again.
func (o *Outbox) run(options OutboxOptions, ops []*op) (kept []*op, err error) {
	err = o.transact(options, ops)
	if err == nil {
		return nil, nil
	}
	if len(ops) > 1 && !damaged(err) && !passing(err) {
		// It is about one of them, and nobody knows which.
		err = nil
		for _, p := range ops {
			k, e := o.run(options, []*op{p})
			kept, err = append(kept, k...), errors.Join(err, e)
		}
		return kept, err
	}
	for _, p := range ops {
		switch {
		case p.done != nil:
			p.answer = err
		case passing(err):
			kept = append(kept, p)
		default:
			o.lost(options, p, err)
		}
	}
	return kept, err
}

// transact runs ops in one transaction and notes their answers. On an error
// nothing happened and nothing was noted.
func (o *Outbox) transact(options OutboxOptions, ops []*op) error {
	ctx := context.Background()
	tx, err := o.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	w := &work{ctx: ctx, tx: tx, options: options, counts: o.counts, most: o.maxContent}
	answers := make([]error, len(ops))
	for i, p := range ops {
		err := p.run(w)
		var store *storeError
		if errors.As(err, &store) {
			return err
		}
		answers[i] = err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	o.counts = w.counts
	o.mu.Lock()
	for _, f := range w.after {
		f(o)
	}
	o.mu.Unlock()
	for i, p := range ops {
		if p.done != nil {
			p.answer = answers[i]
		} else if answers[i] != nil {
			o.lost(options, p, answers[i])
		}
	}
	return nil
}

// lost says that a letter nobody waits for has no place.
func (o *Outbox) lost(options OutboxOptions, p *op, err error) {
	options.Log.Warn("letter not kept; the audit log has what happened", "id", p.letter, "error", err)
	o.mu.Lock()
	defer o.mu.Unlock()
	if key, ok := o.folded[p.letter]; ok {
		delete(o.folded, p.letter)
		if o.folds[key] == p.letter {
			delete(o.folds, key)
		}
	}
}
