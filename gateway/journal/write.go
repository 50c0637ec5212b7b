package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	noteDelay  = 20 * time.Millisecond  // how long notes wait for company; well below the 50 ms promised
	retryDelay = 250 * time.Millisecond // between attempts to write notes that were kept
	batchLines = 1024                   // records in one batch, at most
	batchBytes = 1 << 20                // and about so many bytes
	maxBehind  = 1 << 20                // bytes of stored hashes that wait for their file, at most
)

// line is a record that has no number yet.
type line struct {
	time string
	tail []byte // the rest of the line, newline included
	note bool   // nobody waits for it
}

// batch is what one fdatasync makes durable.
type batch struct {
	lines  []line
	bytes  int
	urgent bool          // somebody waits
	sign   bool          // a checkpoint is to follow before done
	taken  chan struct{} // closed when it grows no more
	done   chan struct{} // closed when it is durable, or err says why not
	err    error
}

func newBatch() *batch {
	return &batch{taken: make(chan struct{}), done: make(chan struct{})}
}

// entry says how a record is to be treated.
type entry struct {
	note, urgent, sign, last bool
}

// put gives e to the batch that forms, and waits while that one is full.
func (a *Audit) put(ctx context.Context, e Event, how entry) (*batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("write to the audit log: %w", err)
	}
	if e.Time == "" {
		e.Time = time.Now().UTC().Format(timeForm)
	}
	e, err := bounded(e)
	if err != nil {
		return nil, err
	}
	if a.hashPeer {
		for i, p := range e.Peers {
			e.Peers[i] = a.Digest("peer", p)
		}
	}
	l := line{e.Time, appendTail(nil, &e), how.note}
	for {
		a.mu.Lock()
		switch {
		case a.failed != nil:
			err = a.failed
		case a.closing:
			err = ErrClosed
		case how.note && a.stalled != nil:
			err = a.stalled
		}
		if err != nil {
			a.mu.Unlock()
			return nil, err
		}
		b := a.forming
		if len(b.lines) < batchLines && b.bytes < batchBytes {
			b.lines = append(b.lines, l)
			b.bytes += len(l.tail)
			b.urgent = b.urgent || how.urgent
			b.sign = b.sign || how.sign
			a.closing = a.closing || how.last
			a.mu.Unlock()
			if how.note {
				poke(a.wake)
			}
			return b, nil
		}
		b.urgent = true
		a.mu.Unlock()
		poke(a.wake)
		poke(a.hurry)
		select {
		case <-b.taken:
		case <-ctx.Done():
			return nil, fmt.Errorf("write to the audit log: %w", ctx.Err())
		}
	}
}

// mark writes e and a checkpoint that covers it. With last, nothing comes
// after it.
func (a *Audit) mark(e Event, last bool) error {
	b, err := a.put(context.Background(), e, entry{urgent: true, sign: true, last: last})
	if err != nil {
		return err
	}
	return a.await(context.Background(), b)
}

// await returns when b is durable. If nobody is writing, it writes: handing
// the work to another goroutine would cost a fifth of what the disk does.
func (a *Audit) await(ctx context.Context, b *batch) error {
	for {
		select {
		case <-b.done:
			return b.err
		default:
		}
		select {
		case <-b.done:
			return b.err
		case a.turn <- struct{}{}:
			a.commit()
			<-a.turn
		case <-ctx.Done():
			// Somebody else must write what was taken.
			poke(a.wake)
			return fmt.Errorf("wait for the audit log: %w", ctx.Err())
		}
	}
}

// clerk writes what nobody waits for.
func (a *Audit) clerk() {
	defer close(a.ended)
	var retry <-chan time.Time
	for {
		select {
		case <-a.wake:
		case <-retry:
		case <-a.quit:
			a.turn <- struct{}{}
			a.commit()
			a.mu.Lock()
			a.over = true
			b := a.forming
			a.mu.Unlock()
			// Nothing was taken into it, but a Flush may wait for it.
			b.err = ErrClosed
			close(b.done)
			<-a.turn
			return
		}
		a.gather()
		a.turn <- struct{}{}
		a.commit()
		kept := len(a.kept)
		<-a.turn
		if retry = nil; kept > 0 {
			retry = time.After(retryDelay)
		}
	}
}

// gather waits for company when nobody is in a hurry.
func (a *Audit) gather() {
	a.mu.Lock()
	wait := !a.forming.urgent && len(a.forming.lines) > 0
	a.mu.Unlock()
	if !wait {
		return
	}
	t := time.NewTimer(noteDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.hurry:
	case <-a.quit:
	}
}

// commit makes the batch that forms durable, and the notes that were kept
// before it. The caller has the turn.
func (a *Audit) commit() {
	if a.crowded {
		// Those who were just told that they are durable come back with their
		// next record: let them, so that they share this sync.
		runtime.Gosched()
	}
	a.mu.Lock()
	b := a.forming
	if len(b.lines) == 0 && !b.urgent && len(a.kept) == 0 || a.failed != nil || a.over {
		a.mu.Unlock()
		return
	}
	a.forming, a.flying = newBatch(), b
	st := a.durable
	a.mu.Unlock()
	close(b.taken)

	lines := b.lines
	if len(a.kept) > 0 {
		lines = append(a.kept, lines...)
	}
	buf, last := a.lineBuf[:0], a.last
	var hashes []byte
	if a.hashEnd >= 0 {
		hashes = a.behind
	}
	for _, l := range lines {
		// A clock that went back is taken as standing.
		last = max(last, l.time)
		from := len(buf)
		if st.tree.n%stride == 0 {
			st.index = append(st.index, st.size+int64(from))
		}
		buf = append(appendHead(buf, uint64(st.tree.n), last), l.tail...)
		hashes = st.tree.add(tlog.RecordHash(buf[from:len(buf)-1]), hashes)
	}
	b.err = a.append(buf)
	if b.err == nil {
		st.size += int64(len(buf))
		a.tree, a.last, a.kept = st.tree, last, nil
		a.storeHashes(hashes)
	} else {
		a.keep(lines)
	}
	a.mu.Lock()
	if b.err == nil {
		a.durable = st
	}
	a.stalled = nil
	if len(a.kept) > 0 {
		a.stalled = b.err
	}
	a.mu.Unlock()
	if a.lineBuf = buf; cap(buf) > 2*batchBytes {
		a.lineBuf = nil
	}
	if b.sign && b.err == nil {
		b.err = a.checkpoint()
	}
	a.mu.Lock()
	a.flying = nil
	a.mu.Unlock()
	close(b.done)
	if b.err == nil && a.tree.n-a.signed >= a.every {
		if err := a.checkpoint(); err != nil {
			a.log.Error("audit checkpoint not written", "error", err)
		}
	}
	a.crowded = len(b.lines) > 1
	a.tell(b.err)
}

// tell says once that writing fails, and once that it works again.
func (a *Audit) tell(err error) {
	if err != nil && !a.warned {
		a.log.Error("audit log cannot be written; what needs a record is denied", "error", err)
	}
	if err == nil && a.warned {
		a.log.Info("audit log can be written again")
	}
	a.warned = err != nil
}

// append makes buf durable at the end of entries. After a write that failed,
// the log goes on only when entries is certainly back at what was durable
// before; after a sync that failed nobody knows what the disk has, and the log
// takes nothing more until it is opened, and read, again.
func (a *Audit) append(buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	at := a.durable.size // only who has the turn changes it
	if _, err := a.entries.WriteAt(buf, at); err != nil {
		err = fmt.Errorf("write audit record: %w", err)
		if back := undo(a.entries, at); back != nil {
			return a.fail(errors.Join(err, fmt.Errorf("undo the write: %w", back)))
		}
		return err
	}
	if err := a.entries.Datasync(); err != nil {
		// The record was not acknowledged. If it can be taken off, the next
		// start will not report as interrupted what was never begun.
		_ = undo(a.entries, at)
		return a.fail(fmt.Errorf("sync audit records: %w", err))
	}
	return nil
}

// undo puts the end of f back to where it was.
func undo(f file, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// fail makes err the log's last word.
func (a *Audit) fail(err error) error {
	a.mu.Lock()
	a.failed = fmt.Errorf("the audit log takes nothing until it is opened again: %w", err)
	err = a.failed
	b := a.forming
	a.forming = newBatch()
	a.mu.Unlock()
	b.err = err
	close(b.taken)
	close(b.done)
	return err
}

// keep holds on to the notes among lines, which nobody waits for and which
// were promised, until they can be written.
func (a *Audit) keep(lines []line) {
	var notes []line
	for _, l := range lines {
		if l.note {
			notes = append(notes, l)
		}
	}
	a.kept = notes
	if a.Err() != nil {
		a.kept = nil
	}
}

// storeHashes appends to the file of stored hashes. It is not synced: it is
// only ever written after its records are durable, and can be made anew from
// them.
func (a *Audit) storeHashes(b []byte) {
	if a.hashEnd < 0 {
		return
	}
	if _, err := a.hashes.WriteAt(b, a.hashEnd); err == nil {
		a.hashEnd += int64(len(b))
		a.behind = b[:0]
		return
	} else if len(b) > maxBehind {
		a.log.Error("audit hashes are not stored any more; the next start makes them anew", "error", err)
		a.hashEnd, a.behind = -1, nil
		return
	}
	a.behind = b
}

// checkpoint signs the tree as it is and makes that durable. Earlier
// checkpoints stay: they say more exactly what is wrong with a log that does
// not hold.
func (a *Audit) checkpoint() error {
	if a.signed == a.tree.n {
		return nil
	}
	msg, err := checkpoint{a.tree.n, a.tree.root()}.sign(a.keys.signer)
	if err != nil {
		return fmt.Errorf("sign audit checkpoint: %w", err)
	}
	msg = append(msg, '\n')
	if _, err := a.notes.WriteAt(msg, a.noteEnd); err != nil {
		err = fmt.Errorf("write audit checkpoint: %w", err)
		if back := undo(a.notes, a.noteEnd); back != nil {
			return a.fail(errors.Join(err, fmt.Errorf("undo the write: %w", back)))
		}
		return err
	}
	if err := a.notes.Datasync(); err != nil {
		_ = undo(a.notes, a.noteEnd)
		return a.fail(fmt.Errorf("sync audit checkpoint: %w", err))
	}
	a.noteEnd += int64(len(msg))
	a.signed = a.tree.n
	return nil
}

// rebuildHashes writes the stored hashes of the first size bytes of entries.
func rebuildHashes(entries, hashes file, size int64) error {
	if err := hashes.Truncate(0); err != nil {
		return err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(entries, 0, size), maxLine*2)
	var t tree
	var buf []byte
	var off int64
	flush := func() error {
		_, err := hashes.WriteAt(buf, off)
		off += int64(len(buf))
		buf = buf[:0]
		return err
	}
	for {
		l, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(l) == 0 {
			return flush()
		}
		if err != nil {
			return err
		}
		buf = t.add(tlog.RecordHash(l[:len(l)-1]), buf)
		if len(buf) > 1<<20 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}
