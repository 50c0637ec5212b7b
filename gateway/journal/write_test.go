package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// until waits for something that another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// A record that comes alone costs exactly one fdatasync.
func TestOneSyncForOne(t *testing.T) {
	s := newSeam()
	a, _ := openLog(t, logDir(t), Options{}, s.wrap)
	for i := range 5 {
		before := s.count("entries datasync")
		record(t, a, KindIntent, fmt.Sprint(i))
		if n := s.count("entries datasync") - before; n != 1 {
			t.Errorf("%d times fdatasync for one record", n)
		}
	}
	if n := s.count("entries sync") + s.count("hashes datasync") + s.count("hashes sync"); n != 0 {
		t.Errorf("%d syncs of other sorts", n)
	}
}

// Records that come while one is being written share the next fdatasync, and
// notes that are there go along.
func TestSyncIsShared(t *testing.T) {
	s := newSeam()
	a, _ := openLog(t, logDir(t), Options{}, s.wrap)
	held, first := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.on(func(name, call string, _ []byte) error {
		if name == "entries" && call == "datasync" {
			once.Do(func() { close(first); <-held })
		}
		return nil
	})
	before := s.count("entries datasync")
	var wg sync.WaitGroup
	put := func() {
		wg.Go(func() {
			if err := a.Record(context.Background(), event("0123456789")); err != nil {
				t.Error(err)
			}
		})
	}
	put()
	<-first
	for range 63 {
		put()
	}
	if err := a.Note(event("0123456789")); err != nil {
		t.Fatal(err)
	}
	until(t, "all have come", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.forming.lines) == 64
	})
	close(held)
	wg.Wait()
	if n := s.count("entries datasync") - before; n != 2 {
		t.Errorf("%d times fdatasync for 65 records, want 2", n)
	}
	if n, _ := a.Head(); n != 66 {
		t.Errorf("%d records", n)
	}
}

// A context that ends while another record has the disk is an error, and the
// record gets there all the same.
func TestContextEnds(t *testing.T) {
	s := newSeam()
	a, _ := openLog(t, logDir(t), Options{}, s.wrap)
	held, first := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.on(func(name, call string, _ []byte) error {
		if name == "entries" && call == "datasync" {
			once.Do(func() { close(first) })
			<-held
		}
		return nil
	})
	slow := make(chan error)
	go func() { slow <- a.Record(context.Background(), event("first")) }()
	<-first
	c, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := a.Record(c, event("second")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("record: %v", err)
	}
	if err := a.Flush(c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush: %v", err)
	}
	close(held)
	if err := <-slow; err != nil {
		t.Error(err)
	}
	// Nobody waits for it, and nobody else comes.
	until(t, "the second is durable", func() bool { n, _ := a.Head(); return n == 3 })
	if got, err := a.Read(2, 1); err != nil || len(got) != 1 || got[0].ID != "second" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Nobody's memory grows while the disk stands still: who writes waits.
func TestQueueIsBounded(t *testing.T) {
	s := newSeam()
	a, _ := openLog(t, logDir(t), Options{}, s.wrap)
	held := make(chan struct{})
	s.on(func(name, call string, _ []byte) error {
		if name == "entries" && call == "datasync" {
			<-held
		}
		return nil
	})
	c, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	taken := 0
	var err error
	for taken < 10*batchLines {
		if _, err = a.put(c, event("0123456789"), entry{note: true}); err != nil {
			break
		}
		taken++
	}
	if !errors.Is(err, context.DeadlineExceeded) || taken > 2*batchLines {
		t.Errorf("%d were taken: %v", taken, err)
	}
	close(held)
	if err := a.Flush(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if n, _ := a.Head(); n != uint64(taken+1) {
		t.Errorf("%d records of %d", n, taken)
	}
}

// Defect a of the original: a log that cannot be written lets things pass. Here
// the failed record is an error; when the file could be put back, the log goes
// on by itself as soon as there is room, and it holds.
func TestFullDiskPasses(t *testing.T) {
	for _, part := range []int{0, 1, 100, 1 << 20} {
		dir, s := logDir(t), newSeam()
		a, _ := openLog(t, dir, Options{}, s.wrap)
		record(t, a, KindIntent, "before")
		s.on(func(name, call string, _ []byte) error {
			if call == "write" {
				return shortWrite{part, syscall.ENOSPC}
			}
			return nil
		})
		for range 3 {
			if err := a.Record(ctx(t), event("lost")); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("record on a full disk: %v", err)
			}
		}
		if err := a.Err(); err != nil {
			t.Fatalf("the log gave up: %v", err)
		}
		if r := must(t, dir); r.Records != 2 {
			t.Errorf("%+v", r)
		}
		s.on(nil)
		record(t, a, KindIntent, "after")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if r := must(t, dir); r.Records != 4 {
			t.Errorf("%+v", r)
		}
		b, _ := openLog(t, dir, Options{}, nil)
		for _, e := range allEvents(t, b) {
			if e.ID == "lost" {
				t.Error("a record that failed is there")
			}
		}
	}
}

// Notes that were taken just before the disk was full are not lost, stay in
// order, and no more are taken until they are written.
func TestFullDiskKeepsNotes(t *testing.T) {
	dir, s := logDir(t), newSeam()
	a, _ := openLog(t, dir, Options{}, s.wrap)
	full := func(name, call string, _ []byte) error {
		if call == "write" {
			return syscall.ENOSPC
		}
		return nil
	}
	s.on(full)
	for i := range 10 {
		if err := a.Note(Event{Kind: KindRead, ID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(ctx(t)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("flush: %v", err)
	}
	if err := a.Note(Event{Kind: KindRead, ID: "refused"}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a note on a full disk: %v", err)
	}
	if err := a.Record(ctx(t), event("denied")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a record on a full disk: %v", err)
	}
	s.on(nil)
	// Without anybody's doing.
	until(t, "the notes are written", func() bool { n, _ := a.Head(); return n == 11 })
	if err := a.Note(Event{Kind: KindRead, ID: "10"}); err != nil {
		t.Error(err)
	}
	if err := a.Flush(ctx(t)); err != nil {
		t.Error(err)
	}
	for i, e := range allEvents(t, a)[1:] {
		if e.ID != fmt.Sprint(i) {
			t.Errorf("record %d: %+v", i+1, e)
		}
	}
	s.on(full)
	if err := a.Note(Event{Kind: KindRead, ID: "x"}); err != nil {
		t.Fatal(err)
	}
	_ = a.Flush(ctx(t))
	s.on(nil)
	// A record takes the kept note along.
	record(t, a, KindIntent, "y")
	got := allEvents(t, a)
	if n := len(got); got[n-2].ID != "x" || got[n-1].ID != "y" {
		t.Errorf("%+v", got[n-2:])
	}
	a.Close()
	must(t, dir)
}

// After a failed sync, or a failed write that cannot be undone, nothing is
// taken any more; opened again, the log holds and goes on.
func TestPoison(t *testing.T) {
	for name, fail := range map[string]func(name, call string) error{
		"sync of entries":     func(n, c string) error { return when(n == "entries" && c == "datasync", syscall.EIO) },
		"write and truncate":  func(n, c string) error { return when(n == "entries" && (c == "write" || c == "truncate"), syscall.EIO) },
		"write and undo sync": func(n, c string) error { return when(n == "entries" && (c == "write" || c == "sync"), syscall.EIO) },
		"everything":          func(_, _ string) error { return syscall.EIO },
	} {
		t.Run(name, func(t *testing.T) {
			dir, s := logDir(t), newSeam()
			a, _ := openLog(t, dir, Options{}, s.wrap)
			record(t, a, KindIntent, "before")
			s.on(func(name, call string, _ []byte) error { return fail(name, call) })
			if err := a.Record(ctx(t), event("lost")); !errors.Is(err, syscall.EIO) {
				t.Errorf("record: %v", err)
			}
			s.on(nil)
			if err := a.Err(); !errors.Is(err, syscall.EIO) {
				t.Errorf("Err: %v", err)
			}
			for range 2 {
				if err := errors.Join(a.Record(ctx(t), event("lost")), a.Note(event("lost")), a.Flush(ctx(t))); !errors.Is(err, syscall.EIO) {
					t.Errorf("after it: %v", err)
				}
			}
			if err := a.Close(); !errors.Is(err, syscall.EIO) {
				t.Errorf("close: %v", err)
			}
			b, rec := openLog(t, dir, Options{}, nil)
			if len(rec.Unfinished) == 0 || rec.Unfinished[0].ID != "before" {
				t.Errorf("%+v", rec)
			}
			record(t, b, KindOutcome, "before")
			b.Close()
			must(t, dir)
		})
	}
}

func when(ok bool, err error) error {
	if ok {
		return err
	}
	return nil
}

// All who wait when the log gives up are told.
func TestPoisonTellsAll(t *testing.T) {
	s := newSeam()
	a, _ := openLog(t, logDir(t), Options{}, s.wrap)
	held := make(chan struct{})
	s.on(func(name, call string, _ []byte) error {
		if name == "entries" && call == "datasync" {
			<-held
			return syscall.EIO
		}
		return nil
	})
	errs := make(chan error)
	for range 20 {
		go func() { errs <- a.Record(context.Background(), event("0123456789")) }()
	}
	until(t, "all have come", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		n := len(a.forming.lines)
		if a.flying != nil {
			n += len(a.flying.lines)
		}
		return n == 20
	})
	close(held)
	for range 20 {
		if err := <-errs; !errors.Is(err, syscall.EIO) {
			t.Errorf("told %v", err)
		}
	}
}

// Trouble with the checkpoints denies nothing as long as it can be undone, and
// they are made up for.
func TestCheckpointFails(t *testing.T) {
	dir, s := logDir(t), newSeam()
	a, _ := openLog(t, dir, Options{Checkpoint: 3}, s.wrap)
	s.on(func(name, call string, _ []byte) error {
		return when(name == "checkpoints" && call == "write", shortWrite{30, syscall.ENOSPC})
	})
	for i := range 10 {
		record(t, a, KindIntent, fmt.Sprint(i))
	}
	if r := must(t, dir); r.Records != 11 || r.Signed != 1 {
		t.Errorf("%+v", r)
	}
	s.on(nil)
	record(t, a, KindIntent, "10")
	until(t, "the checkpoint is there", func() bool { return must(t, dir).Signed == 12 })
	s.on(func(name, call string, _ []byte) error {
		return when(name == "checkpoints" && call == "datasync", syscall.EIO)
	})
	for i := range 3 {
		_ = a.Record(ctx(t), event(fmt.Sprint(i)))
	}
	until(t, "the log gives up", func() bool { return errors.Is(a.Err(), syscall.EIO) })
	s.on(nil)
	a.Close()
	b, _ := openLog(t, dir, Options{}, nil)
	b.Close()
	must(t, dir)
}

// The stored hashes are a cache: that they cannot be written denies nothing.
func TestHashesFail(t *testing.T) {
	dir, s := logDir(t), newSeam()
	a, _ := openLog(t, dir, Options{}, s.wrap)
	s.on(func(name, call string, _ []byte) error { return when(name == "hashes", shortWrite{7, syscall.ENOSPC}) })
	for i := range 10 {
		record(t, a, KindIntent, fmt.Sprint(i))
	}
	s.on(nil)
	record(t, a, KindIntent, "10")
	if r := must(t, dir); r.Records != 12 {
		t.Errorf("%+v", r)
	}
	s.on(func(name, call string, _ []byte) error { return when(name == "hashes", syscall.ENOSPC) })
	e := event("0123456789")
	for range 2 * maxBehind / 64 {
		if err := a.Note(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if got := len(a.behind); got > 2*maxBehind {
		t.Errorf("%d bytes of hashes wait", got)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	want := must(t, dir)
	b, rec := openLog(t, dir, Options{}, nil)
	if rec.Records != want.Records {
		t.Errorf("%+v, want %+v", rec, want)
	}
	b.Close()
	must(t, dir)
}

// Checkpoints come every so many records, and at start and stop.
func TestCheckpointEvery(t *testing.T) {
	dir := logDir(t)
	a, _ := openLog(t, dir, Options{Checkpoint: 4}, nil)
	for i := range 10 {
		record(t, a, KindIntent, fmt.Sprint(i))
	}
	a.Close()
	v := a.keys.verifier
	cps, _, err := parseCheckpoints(readFolder(t, dir)["checkpoints"], v)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int64
	for _, c := range cps {
		sizes = append(sizes, c.size)
	}
	if want := []int64{0, 1, 5, 9, 12}; !slices.Equal(sizes, want) {
		t.Errorf("checkpoints of %v records, want %v", sizes, want)
	}
}
