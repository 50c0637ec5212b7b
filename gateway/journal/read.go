package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"
	"time"
)

// The bounds of one page.
const (
	pageRecords = 4096
	pageBytes   = 8 << 20
)

// Read returns up to max records from the one numbered from, oldest first, and
// none when there is no such record. A page is never longer than 4096 records
// or about 8 MiB, and never empty while there is a record to give. Its cost does
// not depend on how long the log is. Only durable records are seen.
func (a *Audit) Read(from uint64, max int) ([]Event, error) {
	st := a.snapshot()
	if max <= 0 || from >= uint64(st.tree.n) {
		return nil, nil
	}
	max = min(max, pageRecords)
	var page []Event
	bytes := 0
	err := a.walk(st, int64(from), func(line []byte, seq int64) error {
		e, err := parseLine(line)
		if err == nil && e.Seq != uint64(seq) {
			err = fmt.Errorf("it says that it is %d", e.Seq)
		}
		if err != nil {
			return &BadRecordError{uint64(seq), err.Error()}
		}
		page = append(page, e)
		if bytes += len(line); len(page) == max || bytes >= pageBytes {
			return errStop
		}
		return nil
	})
	return page, err
}

// ReadSince calls fn for every record whose time is t or later, oldest first.
// It finds the first of them without reading the log before it. An error of
// fn ends it and is returned.
func (a *Audit) ReadSince(t time.Time, fn func(Event) error) error {
	since := t.UTC().Format(timeForm)
	switch y := t.UTC().Year(); {
	case y < 0:
		since = ""
	case y > 9999:
		return nil
	}
	st := a.snapshot()
	var failed error
	first := sort.Search(len(st.index), func(i int) bool {
		at, err := a.timeAt(st.index[i])
		if err != nil && failed == nil {
			failed = &BadRecordError{uint64(i * stride), err.Error()}
		}
		return at >= since
	})
	if failed != nil {
		return failed
	}
	from := int64(max(first-1, 0)) * stride
	if from >= st.tree.n {
		return nil
	}
	return a.walk(st, from, func(line []byte, seq int64) error {
		h, err := parseHead(line)
		if err == nil && h.time < since {
			return nil
		}
		var e Event
		if err == nil {
			e, err = parseLine(line)
		}
		if err != nil {
			return &BadRecordError{uint64(seq), err.Error()}
		}
		return fn(e)
	})
}

// snapshot is the durable part of the log as it is now; that part never
// changes.
func (a *Audit) snapshot() state {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.durable
}

// errStop ends a walk.
var errStop = errors.New("stop")

// walk calls fn with the lines of st from the record numbered from.
func (a *Audit) walk(st state, from int64, fn func(line []byte, seq int64) error) error {
	off := st.index[from/stride]
	in := bufio.NewReaderSize(io.NewSectionReader(a.entries, off, st.size-off), 1<<16)
	var long []byte
	for seq := from / stride * stride; seq < st.tree.n; seq++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long, err = readLong(in, append(long[:0], line...))
			line = long
		}
		if err != nil {
			return fmt.Errorf("read audit record %d: %w", seq, err)
		}
		if seq < from {
			continue
		}
		if err := fn(line[:len(line)-1], seq); err != nil {
			if errors.Is(err, errStop) {
				return nil
			}
			return err
		}
	}
	return nil
}

// timeAt reads the time of the record that starts at off.
func (a *Audit) timeAt(off int64) (string, error) {
	var b [len(`{"seq":`) + 20 + len(`,"time":"`) + len(timeForm)]byte
	n, err := a.entries.ReadAt(b[:], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	_, rest, ok := bytes.Cut(b[:n], []byte(`,"time":"`))
	if !ok || len(rest) < len(timeForm) || !isTime(rest) {
		return "", errLine
	}
	return string(rest[:len(timeForm)]), nil
}
