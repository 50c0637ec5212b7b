package plan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Engine runs steps and keeps the receipt.
type Engine struct {
	Store Store
	// Decode makes a step from its kind and its data. Of an unknown kind it
	// says so; nothing is touched then.
	Decode func(kind string, data json.RawMessage) (Step, error)
	// Progress is told of each step before (Err nil, Done false) and after.
	// It may be nil.
	Progress func(Event)
	// Between is asked between two steps whether to go on; its error stops
	// the run there. It may be nil.
	Between func(context.Context) error
}

// Event is one line of progress.
type Event struct {
	N, Of  int    // counted from 1
	Title  string // of the step
	Change Change // what happens to its object
	Undo   bool   // a Revert
	Done   bool
	Note   string // where something was kept, or why nothing was done
	Err    error
}

// Item is one step of a draft.
type Item struct {
	Step   Step
	Change Change // what Apply would do now
	entry  Entry
}

// Draft is everything that an install would do, found out without a change.
type Draft struct {
	Items     []Item
	Obsolete  []Item // in the receipt and no longer wanted: reverted first
	Conflicts []Trouble

	receipt *Receipt
	dirty   bool // the receipt on disk would change even if no step does
}

// Err returns nil or every conflict at once, as a *ConflictError.
func (d *Draft) Err() error {
	if len(d.Conflicts) == 0 {
		return nil
	}
	return &ConflictError{Conflicts: d.Conflicts}
}

// Changes counts the steps that would change something.
func (d *Draft) Changes() int {
	n := len(d.Obsolete)
	for _, it := range d.Items {
		if it.Change == Make || it.Change == Alter {
			n++
		}
	}
	return n
}

// Draft plans every step, against the machine and against the receipt of an
// earlier run (nil: there is none). It reads only. Its own error means that the
// receipt cannot be used; conflicts are in the draft.
func (e *Engine) Draft(ctx context.Context, h Header, steps []Step, old *Receipt) (*Draft, error) {
	d := &Draft{receipt: &Receipt{Schema: Schema, Header: h}}
	if old == nil {
		old = &Receipt{}
	}
	for _, en := range old.Steps {
		// Half understood, a receipt would be half carried on.
		if _, err := e.decode(en); err != nil {
			return nil, err
		}
	}
	d.receipt.Created = old.Created
	d.dirty = !sameHeader(old.Header, h)
	wanted := make(map[[2]string]bool)
	for _, s := range steps {
		id := [2]string{s.Kind(), s.Key()}
		if wanted[id] {
			return nil, fmt.Errorf("two steps for %s %s: a bug", s.Kind(), s.Key())
		}
		wanted[id] = true
		it, err := e.plan(ctx, s, old.find(s.Kind(), s.Key()))
		if err != nil {
			if it == nil {
				return nil, err
			}
			d.Conflicts = append(d.Conflicts, Trouble{Title: s.Title(), Err: err})
		}
		d.Items = append(d.Items, *it)
	}
	for _, en := range old.Steps {
		if wanted[[2]string{en.Kind, en.Key}] {
			continue
		}
		if !en.State.touched() || en.Change == Adopt || en.Change == None {
			d.dirty = true // forgotten: nothing of ours is there
			continue
		}
		s, err := e.decode(en)
		if err != nil {
			return nil, err
		}
		if en.State == Kept {
			// Not wanted now, and still ours to purge one day.
			d.receipt.Steps = append(d.receipt.Steps, en)
			continue
		}
		d.Obsolete = append(d.Obsolete, Item{Step: s, Change: Alter, entry: en})
	}
	return d, nil
}

// plan decides about one step. An error with an item is a conflict.
func (e *Engine) plan(ctx context.Context, s Step, was *Entry) (*Item, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write down %s: %w", s.Title(), err)
	}
	it := &Item{Step: s, entry: Entry{Kind: s.Kind(), Key: s.Key(), Title: s.Title(), State: Planned, Data: data}}
	ours := was != nil && was.State.touched() && was.Change != Adopt && was.Change != None
	if ours {
		if err := recall(s, was.Memory); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrReceipt, s.Title(), err)
		}
		it.entry.State = was.State
		it.entry.Change = was.Change
		it.entry.Memory = was.Memory
	}
	change, err := s.Plan(ctx)
	if err != nil {
		it.Change = Make
		return it, err
	}
	switch {
	case !ours:
		it.Change = change
		it.entry.Change = change
		if change == Adopt && was != nil && was.State == Applied && same(was.Data, data) {
			// Found before, and found again: nothing to say.
			if s.Verify(ctx) == nil {
				it.Change = None
				it.entry = *was
			}
		}
	case was.State == Applied && same(was.Data, data) && s.Verify(ctx) == nil:
		it.Change = None
		it.entry.Data = was.Data
	case was.State == Applied:
		it.Change = Alter
	default:
		it.Change = was.Change
	}
	return it, nil
}

// Apply carries out a draft without conflicts. On an error the receipt says how
// far it came: the same install again goes on from there, an uninstall goes
// back from there.
func (e *Engine) Apply(ctx context.Context, d *Draft) error {
	if err := d.Err(); err != nil {
		return err
	}
	r := d.receipt
	kept := r.Steps
	r.Steps = nil
	for _, it := range d.Items {
		en := it.entry
		r.Steps = append(r.Steps, en)
	}
	r.Steps = append(r.Steps, kept...)
	first := len(r.Steps)
	for _, it := range d.Obsolete {
		r.Steps = append(r.Steps, it.entry)
	}
	if d.Changes() == 0 && !d.dirty {
		for i := range r.Steps {
			if r.Steps[i].State != Applied && r.Steps[i].State != Kept {
				d.dirty = true
			}
		}
		if !d.dirty {
			return nil
		}
	}
	if r.Created.IsZero() {
		r.Created = now()
	}
	if err := e.save(r); err != nil {
		return err
	}
	total := len(d.Items) + len(d.Obsolete)
	n := 0
	changed := len(d.Obsolete) > 0
	for i := len(d.Obsolete) - 1; i >= 0; i-- {
		n++
		it := d.Obsolete[i]
		if err := recall(it.Step, it.entry.Memory); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrReceipt, it.entry.Title, err)
		}
		ev := Event{N: n, Of: total, Title: it.entry.Title, Change: it.entry.Change, Undo: true}
		err := e.undo(ctx, r, first+i, it.Step, true, &ev)
		ev.Done, ev.Err = true, err
		e.tell(ev)
		if err != nil {
			return &StepError{Title: "undo: " + it.entry.Title, Err: err}
		}
		r.Steps = r.Steps[:first+i]
		if err := e.pause(ctx); err != nil {
			return err
		}
	}
	for i, it := range d.Items {
		n++
		if it.Change == None && changed && it.Step.Verify(ctx) != nil {
			// It held when it was planned; a step before it has changed what
			// it rests on (a link's target, a file whose hash it names).
			it.Change = Alter
		}
		changed = changed || it.Change == Make || it.Change == Alter
		ev := Event{N: n, Of: total, Title: it.Step.Title(), Change: it.Change}
		if it.Change != None {
			e.tell(ev)
		}
		err := e.do(ctx, r, i, it)
		ev.Done, ev.Err = true, err
		e.tell(ev)
		if err != nil {
			return &StepError{Title: it.Step.Title(), Err: err}
		}
		if err := e.pause(ctx); err != nil {
			return err
		}
	}
	return e.save(r)
}

// do carries out one step and leaves it applied in the receipt.
func (e *Engine) do(ctx context.Context, r *Receipt, i int, it Item) error {
	en := &r.Steps[i]
	if it.Change == None && en.State == Applied {
		return nil
	}
	for tries := 0; ; tries++ {
		if p, ok := it.Step.(Preparer); ok {
			if err := p.Prepare(ctx); err != nil {
				return err
			}
		}
		if err := remember(it.Step, en); err != nil {
			return err
		}
		if it.Change != Make && it.Change != Alter {
			break
		}
		en.State = Applying
		if err := e.save(r); err != nil {
			return err
		}
		err := it.Step.Apply(ctx)
		if errors.Is(err, ErrAgain) && tries < 8 {
			continue
		}
		if err != nil {
			return err
		}
		if err := remember(it.Step, en); err != nil {
			return err
		}
		break
	}
	if err := it.Step.Verify(ctx); err != nil {
		return fmt.Errorf("it was done, and does not hold: %w", err)
	}
	en.State = Applied
	return e.save(r)
}

// Revert undoes the receipt backwards. What cannot be undone is named in a
// *PartialError and stays in the receipt; the rest goes on. What may be kept is
// kept unless purge is set. It returns where the kept things are.
func (e *Engine) Revert(ctx context.Context, r *Receipt, purge bool) (kept []string, err error) {
	steps := make([]Step, len(r.Steps))
	for i, en := range r.Steps {
		if steps[i], err = e.decode(en); err != nil {
			return nil, err
		}
	}
	var conflicts []Trouble
	for i, s := range steps {
		b, ok := s.(Blocker)
		if !ok || !undoable(r.Steps[i]) {
			continue
		}
		if err := b.Blocked(ctx); err != nil {
			conflicts = append(conflicts, Trouble{Title: r.Steps[i].Title, Err: err})
		}
	}
	if len(conflicts) > 0 {
		return nil, &ConflictError{Conflicts: conflicts}
	}
	var left []Trouble
	for i := len(steps) - 1; i >= 0; i-- {
		en := &r.Steps[i]
		ev := Event{N: len(steps) - i, Of: len(steps), Title: en.Title, Change: en.Change, Undo: true}
		if !undoable(*en) {
			if en.State == Applied {
				ev.Note = "was there before; left"
			}
			en.State = Reverted
		} else if err := e.undo(ctx, r, i, steps[i], purge, &ev); err != nil {
			left = append(left, Trouble{Title: en.Title, Err: err})
			ev.Err = err
		} else if en.State == Kept {
			kept = append(kept, ev.Note)
			ev.Note = "kept: " + ev.Note
		}
		ev.Done = true
		e.tell(ev)
		if err := e.pause(ctx); err != nil {
			return kept, err
		}
	}
	rest := r.Steps[:0:0]
	for _, en := range r.Steps {
		if en.State != Reverted {
			rest = append(rest, en)
		}
	}
	r.Steps = rest
	if len(rest) == 0 {
		if err := e.Store.Remove(); err != nil {
			return kept, err
		}
		return kept, nil
	}
	if err := e.save(r); err != nil {
		return kept, err
	}
	if len(left) > 0 {
		return kept, &PartialError{Left: left}
	}
	return kept, nil
}

// undoable reports whether there is something of ours to undo.
func undoable(en Entry) bool {
	return en.State.touched() && en.Change != Adopt && en.Change != None
}

// undo reverts or keeps one step.
func (e *Engine) undo(ctx context.Context, r *Receipt, i int, s Step, purge bool, ev *Event) error {
	en := &r.Steps[i]
	if k, ok := s.(Keeper); ok && !purge {
		if en.State != Kept {
			en.State = Reverting
			if err := e.save(r); err != nil {
				return err
			}
		}
		where, err := k.Keep(ctx)
		if err != nil {
			return err
		}
		if where != "" {
			if err := remember(s, en); err != nil {
				return err
			}
			en.State = Kept
			ev.Note = where
			return e.save(r)
		}
	}
	en.State = Reverting
	if err := e.save(r); err != nil {
		return err
	}
	if err := s.Revert(ctx); err != nil {
		return err
	}
	en.State = Reverted
	return e.save(r)
}

func (e *Engine) decode(en Entry) (Step, error) {
	s, err := e.Decode(en.Kind, en.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if err := recall(s, en.Memory); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrReceipt, en.Title, err)
	}
	return s, nil
}

func (e *Engine) save(r *Receipt) error {
	r.Updated = now()
	return e.Store.Save(r)
}

func (e *Engine) tell(ev Event) {
	if e.Progress != nil {
		e.Progress(ev)
	}
}

func (e *Engine) pause(ctx context.Context) error {
	if e.Between != nil {
		if err := e.Between(ctx); err != nil {
			return err
		}
	}
	return nil
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func recall(s Step, memory json.RawMessage) error {
	m, ok := s.(Rememberer)
	if !ok || len(memory) == 0 {
		return nil
	}
	return m.Recall(memory)
}

func remember(s Step, en *Entry) error {
	m, ok := s.(Rememberer)
	if !ok {
		return nil
	}
	data, err := json.Marshal(m.Memory())
	if err != nil {
		return fmt.Errorf("write down %s: %w", s.Title(), err)
	}
	en.Memory = data
	return nil
}

// same compares JSON that may have been indented on its way through a file.
func same(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func sameHeader(a, b Header) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && same(x, y)
}
