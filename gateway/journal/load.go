package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// load reads and verifies the log. It changes nothing before it knows that the
// log holds.
func (a *Audit) load() (*Recovery, error) {
	fresh, err := a.isFresh()
	if err != nil {
		return nil, err
	}
	if a.keys, err = loadKeys(a.dir, fresh); err != nil {
		return nil, err
	}
	if err := a.openFiles(fresh); err != nil {
		return nil, err
	}
	notes, err := a.notes.Size()
	if err != nil {
		return nil, err
	}
	if notes > maxCheckpoints {
		return nil, fmt.Errorf("%s: %d bytes of checkpoints", a.dir.path, notes)
	}
	data, err := readAll(a.notes, notes)
	if err != nil {
		return nil, fmt.Errorf("read audit checkpoints: %w", err)
	}
	s := &scan{entries: a.entries, hashes: a.hashes}
	if s.checkpoints, a.noteEnd, err = parseCheckpoints(data, a.keys.verifier); err != nil {
		return nil, uncovered(s.checkpoints, err)
	}
	if s.size, err = a.entries.Size(); err != nil {
		return nil, err
	}
	if s.hashSize, err = a.hashes.Size(); err != nil {
		return nil, err
	}
	if len(s.checkpoints) == 0 && s.size > 0 {
		return nil, &BadRecordError{0, noCheckpoint}
	}
	open := map[string][]uint64{} // intents without an outcome, by id
	s.each = func(h head, _ []byte) error {
		switch Kind(h.kind) {
		case KindIntent:
			open[h.id] = append(open[h.id], h.seq)
		case KindOutcome, KindInterrupted:
			delete(open, h.id)
		}
		return nil
	}
	if err := s.run(); err != nil {
		return nil, err
	}
	if err := a.mend(s, notes); err != nil {
		return nil, err
	}
	a.tree, a.last, a.signed = s.tree, s.last, -1
	if n := len(s.checkpoints); n > 0 {
		a.signed = s.checkpoints[n-1].size
	}
	a.durable = state{tree: s.tree, size: s.end, index: s.index}
	if a.signed < 0 {
		// Before the first record: a log without a checkpoint is then always a
		// log that somebody took them from.
		if err := a.checkpoint(); err != nil {
			return nil, err
		}
	}
	rec := &Recovery{Torn: int(s.torn), Records: uint64(s.tree.n)}
	rec.Unfinished, err = a.unfinished(open)
	return rec, err
}

// isFresh reports whether nothing was ever recorded here.
func (a *Audit) isFresh() (bool, error) {
	for _, name := range []string{fileEntries, fileCheckpoints} {
		st, err := a.dir.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		if !st.Mode().IsRegular() || st.Size() > 0 {
			return false, nil
		}
	}
	return true, nil
}

// openFiles opens the files of the log, and makes them when it is fresh.
func (a *Audit) openFiles(fresh bool) (err error) {
	flag := os.O_RDWR
	if fresh {
		flag |= os.O_CREATE
	}
	if a.entries, err = a.dir.openLog(fileEntries, flag); errors.Is(err, fs.ErrNotExist) {
		return &BadRecordError{0, noEntries}
	} else if err != nil {
		return err
	}
	if a.notes, err = a.dir.openLog(fileCheckpoints, flag); errors.Is(err, fs.ErrNotExist) {
		return &BadRecordError{0, noCheckpoints}
	} else if err != nil {
		return err
	}
	if a.hashes, err = a.dir.openLog(fileHashes, os.O_RDWR|os.O_CREATE); err != nil {
		return err
	}
	if !fresh {
		return nil
	}
	return a.dir.sync()
}

// mend takes off what a crash left behind the last record and the last
// checkpoint, and makes the stored hashes anew when they are not those of the
// log.
func (a *Audit) mend(s *scan, notes int64) error {
	if s.torn > 0 {
		a.log.Warn("an unfinished audit record was cut off; it was never acknowledged", "bytes", s.torn, "record", s.tree.n)
		if err := undo(a.entries, s.end); err != nil {
			return fmt.Errorf("cut off an unfinished audit record: %w", err)
		}
	}
	if notes > a.noteEnd {
		a.log.Warn("an unfinished audit checkpoint was cut off", "bytes", notes-a.noteEnd)
		if err := undo(a.notes, a.noteEnd); err != nil {
			return fmt.Errorf("cut off an unfinished audit checkpoint: %w", err)
		}
	}
	a.hashEnd = tlog.StoredHashCount(s.tree.n) * tlog.HashSize
	if !s.stale {
		return nil
	}
	a.log.Warn("the stored hashes of the audit log are made anew", "records", s.tree.n)
	if err := rebuildHashes(a.entries, a.hashes, s.end); err != nil {
		return fmt.Errorf("make the stored hashes anew: %w", err)
	}
	return nil
}

// unfinished reads the intents that have no outcome.
func (a *Audit) unfinished(open map[string][]uint64) ([]Event, error) {
	var seqs []uint64
	for _, s := range open {
		seqs = append(seqs, s...)
	}
	slices.Sort(seqs)
	var out []Event
	for _, seq := range seqs {
		e, err := a.Read(seq, 1)
		if err != nil {
			return nil, err
		}
		out = append(out, e...)
	}
	return out, nil
}
