package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test binary be the child that the kill tests need.
func TestMain(m *testing.M) {
	if job := os.Getenv("CARAPACE_JOURNAL_CHILD"); job != "" {
		child(job)
	}
	os.Exit(m.Run())
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return c
}

// openLog opens a log that is closed at the end of the test.
func openLog(t testing.TB, dir string, o Options, wrap seam) (*Audit, *Recovery) {
	t.Helper()
	a, rec, err := open(dir, o, wrap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, rec
}

func logDir(t testing.TB) string { return filepath.Join(t.TempDir(), "audit") }

func record(t testing.TB, a *Audit, kind Kind, id string) {
	t.Helper()
	e := event(id)
	e.Kind = kind
	if err := a.Record(ctx(t), e); err != nil {
		t.Fatal(err)
	}
}

// must verifies a log that should hold.
func must(t testing.TB, dir string) Report {
	t.Helper()
	r, err := Verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readFolder reads all files of a folder.
func readFolder(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = b
	}
	return all
}

// writeFolder makes a folder of these files and no others.
func writeFolder(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// allEvents reads the log from its first record to its last.
func allEvents(t testing.TB, a *Audit) []Event {
	t.Helper()
	var all []Event
	for {
		page, err := a.Read(uint64(len(all)), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}

// seamFile lets a test see and refuse what is done to a file.
type seamFile struct {
	file
	name string
	s    *testSeam
}

// testSeam counts, and asks before each call; before may be nil.
type testSeam struct {
	mu     sync.Mutex
	calls  map[string]int // "entries datasync"
	before func(name, call string, b []byte) error
}

func newSeam() *testSeam { return &testSeam{calls: map[string]int{}} }

func (s *testSeam) wrap(name string, f file) file { return &seamFile{f, name, s} }

func (s *testSeam) on(before func(name, call string, b []byte) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *testSeam) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

func (s *testSeam) ask(name, call string, b []byte) error {
	s.mu.Lock()
	s.calls[name+" "+call]++
	before := s.before
	s.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(name, call, b)
}

// shortWrite is the error of a write of which only a part was done.
type shortWrite struct {
	n   int
	err error
}

func (e shortWrite) Error() string { return fmt.Sprintf("after %d bytes: %v", e.n, e.err) }
func (e shortWrite) Unwrap() error { return e.err }

func (f *seamFile) WriteAt(b []byte, off int64) (int, error) {
	err := f.s.ask(f.name, "write", b)
	var short shortWrite
	if errors.As(err, &short) {
		n, _ := f.file.WriteAt(b[:min(short.n, len(b))], off)
		return n, err
	}
	if err != nil {
		return 0, err
	}
	return f.file.WriteAt(b, off)
}

func (f *seamFile) Truncate(size int64) error {
	if err := f.s.ask(f.name, "truncate", nil); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *seamFile) Datasync() error {
	if err := f.s.ask(f.name, "datasync", nil); err != nil {
		return err
	}
	return f.file.Datasync()
}

func (f *seamFile) Sync() error {
	if err := f.s.ask(f.name, "sync", nil); err != nil {
		return err
	}
	return f.file.Sync()
}
