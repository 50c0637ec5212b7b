package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// OutboxOptions are the dead_letters part of the configuration.
type OutboxOptions struct {
	Retain      time.Duration // how long letters are kept; below 1: 720h
	Max         int           // how many are kept; below 1: 10000
	KeepContent bool          // bodies and operations are written; without it no letter can be released
	Log         *slog.Logger  // nil: nothing is said
}

func (o OutboxOptions) filled() OutboxOptions {
	if o.Retain <= 0 {
		o.Retain = 720 * time.Hour
	}
	if o.Max < 1 {
		o.Max = 10000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

const (
	laterDelay = 50 * time.Millisecond // how long letters nobody waits for gather
	laterWait  = 2 * time.Second       // how long Later waits for room
	laterMax   = 1024                  // letters that are taken and not written yet
	batchOps   = 256                   // operations in one transaction
	maxContent = 256 << 20             // bytes of bodies and operations in all
)

// Outbox holds the letters: what was held, refused or interrupted. It has one
// writer, which puts what comes together into one transaction. All methods are
// safe for concurrent use.
type Outbox struct {
	db         *sql.DB
	maxContent int64

	wake, hurry, quit, ended chan struct{}
	once                     sync.Once
	result                   error // of Close; written by once

	// The writer's own.
	counts counts
	kept   []*op // letters of a transaction that failed
	warned bool

	mu      sync.Mutex
	options OutboxOptions
	queue   []*op
	room    chan struct{} // closed when the queue was taken
	closing bool
	stalled error              // letters are kept that could not be written; no more are taken
	folds   map[refusal]string // refusals and the letter each is folded into
	folded  map[string]refusal // the other way round
}

// refusal is what makes two refusals the same.
type refusal struct {
	digest, reason, channel, direction string
	client                             uint32
}

func (l *Letter) refusal() refusal {
	return refusal{l.Digest, l.Reason, l.Channel, l.Direction, l.ClientUID}
}

// op is one operation of the writer.
type op struct {
	run    func(*work) error
	done   chan error // has room for one; nil: nobody waits
	answer error      // what done will say
	letter string     // id of a letter that nobody waits for
}

// OpenOutbox opens the outbox in the file path, and makes it when it is not
// there. A damaged one is moved aside and an empty one begun. The file must
// not be a link and must belong to the caller.
func OpenOutbox(path string, o OutboxOptions) (*Outbox, error) {
	o = o.filled()
	db, err := openDatabase(path, o.Log)
	if err != nil {
		return nil, fmt.Errorf("open outbox %s: %w", path, err)
	}
	b := &Outbox{
		db: db, options: o, maxContent: maxContent,
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
		room:  make(chan struct{}),
		folds: map[refusal]string{}, folded: map[string]refusal{},
	}
	if err := b.load(context.Background()); err != nil {
		db.Close()
		return nil, fmt.Errorf("open outbox %s: %w", path, err)
	}
	go b.write()
	return b, nil
}

// load counts what is there and learns which refusals it can fold into.
func (o *Outbox) load(ctx context.Context) error {
	var err error
	if o.counts, err = count(ctx, o.db); err != nil {
		return err
	}
	rows, err := o.db.QueryContext(ctx, `SELECT id, digest, reason, channel, direction, client_uid FROM letters
		WHERE state = 'refused' AND digest != '' ORDER BY changed, n`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var r refusal
		if err := rows.Scan(&id, &r.digest, &r.reason, &r.channel, &r.direction, &r.client); err != nil {
			return err
		}
		o.folds[r], o.folded[id] = id, r
	}
	return rows.Err()
}

// Add writes a letter and returns when it is durable. ErrExists: its id is
// taken. ErrFull: as many letters as there may be wait for a person already.
func (o *Outbox) Add(ctx context.Context, l Letter) error {
	l, err := l.clean(o.keeps())
	if err != nil {
		return err
	}
	err = o.do(ctx, func(w *work) error { return w.insert(&l) })
	if err != nil {
		return fmt.Errorf("add letter %s: %w", l.ID, err)
	}
	return nil
}

// Later takes a refusal (or an interruption) to be written by and by, in
// order, and returns the id under which it will be found. An identical refusal
// (same digest, client, reason and channel) is folded into the letter that is
// there: its count grows, its time is the newest, and the id returned is that
// letter's. An empty State means refused. Letters that wait for a person must
// be durable first, so they need Add.
func (o *Outbox) Later(l Letter) (id string, err error) {
	if l.State == "" {
		l.State = StateRefused
	}
	if l.State.waits() {
		return "", fmt.Errorf("letter %s waits for a person and must be durable first", cut(l.ID, maxName))
	}
	if l, err = l.clean(o.keeps()); err != nil {
		return "", err
	}
	deadline := time.NewTimer(laterWait)
	defer deadline.Stop()
	for {
		o.mu.Lock()
		switch {
		case o.closing:
			err = ErrOutboxClosed
		case o.stalled != nil:
			err = o.stalled
		}
		if err != nil {
			o.mu.Unlock()
			return "", err
		}
		if len(o.queue) < laterMax {
			id = o.later(l)
			o.mu.Unlock()
			poke(o.wake)
			return id, nil
		}
		room := o.room
		o.mu.Unlock()
		poke(o.hurry)
		select {
		case <-room:
		case <-deadline.C:
			return "", fmt.Errorf("letter %s: the outbox does not keep up", l.ID)
		}
	}
}

// later puts l into the queue, folded if it can be. mu is held.
func (o *Outbox) later(l Letter) string {
	key := l.refusal()
	fold := l.State == StateRefused && l.Digest != ""
	if id, ok := o.folds[key]; ok && fold {
		l.ID = id
		o.queue = append(o.queue, &op{letter: id, run: func(w *work) error { return w.fold(&l) }})
		return id
	}
	if fold {
		o.folds[key], o.folded[l.ID] = l.ID, key
	}
	o.queue = append(o.queue, &op{letter: l.ID, run: func(w *work) error { return w.insert(&l) }})
	return l.ID
}

// Flush returns when every letter that was taken so far is durable and can be
// seen.
func (o *Outbox) Flush(ctx context.Context) error {
	if err := o.do(ctx, func(*work) error { return nil }); err != nil {
		return fmt.Errorf("flush outbox: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stalled
}

// SetState moves a letter from one state to another, durably, or does nothing:
// ErrWrongState when it is not in from, ErrNotFound when it is not there.
// Nothing moves out of sent.
func (o *Outbox) SetState(ctx context.Context, id string, from, to State) error {
	if !from.known() || !to.known() || from == StateSent {
		return fmt.Errorf("letter %s cannot go from %q to %q", cut(id, maxName), from, to)
	}
	err := o.do(ctx, func(w *work) error { return w.setState(id, from, to) })
	if err != nil {
		return fmt.Errorf("set letter %s to %s: %w", cut(id, maxName), to, err)
	}
	return nil
}

// Purge deletes one letter, whatever its state but sending, or with an empty
// id all that do not wait for a person. It returns how many. What was deleted
// is overwritten in the file.
func (o *Outbox) Purge(ctx context.Context, id string) (int, error) {
	n := 0
	err := o.do(ctx, func(w *work) (err error) {
		n, err = w.purge(id)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("purge letters: %w", err)
	}
	return n, o.forget(ctx, n)
}

// Expire applies retain and max as of now: what waited for a person for too
// long becomes expired, what has lain for too long is deleted, and if there
// are still too many letters, the oldest that wait for nobody are. It returns
// how many letters it changed.
func (o *Outbox) Expire(ctx context.Context, now time.Time) (int, error) {
	n := 0
	err := o.do(ctx, func(w *work) (err error) {
		n, err = w.expire(now)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("expire letters: %w", err)
	}
	return n, o.forget(ctx, n)
}

// forget empties SQLite's log, which still has the deleted pages.
func (o *Outbox) forget(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	var busy, pages, moved int
	if err := o.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
		return fmt.Errorf("overwrite deleted letters: %w", err)
	}
	return nil
}

// Reconfigure changes the options. What was written stays as it is until it
// expires.
func (o *Outbox) Reconfigure(n OutboxOptions) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n.Log == nil {
		n.Log = o.options.Log
	}
	o.options = n.filled()
}

func (o *Outbox) keeps() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.options.KeepContent
}

// Close writes what was taken and closes the database.
func (o *Outbox) Close() error {
	o.once.Do(func() {
		o.mu.Lock()
		o.closing = true
		o.mu.Unlock()
		close(o.quit)
		<-o.ended
		err := o.db.Close()
		if n := len(o.kept); n > 0 {
			err = errors.Join(fmt.Errorf("%d letters were not written: %w", n, o.stalled), err)
		}
		if err != nil {
			o.result = fmt.Errorf("close outbox: %w", err)
		}
	})
	return o.result
}

// do has the writer run something, and waits until it is durable.
func (o *Outbox) do(ctx context.Context, run func(*work) error) error {
	p := &op{run: run, done: make(chan error, 1)}
	o.mu.Lock()
	if o.closing {
		o.mu.Unlock()
		return ErrOutboxClosed
	}
	o.queue = append(o.queue, p)
	o.mu.Unlock()
	poke(o.wake)
	poke(o.hurry)
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
