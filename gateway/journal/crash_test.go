package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// drive is a model of a disk with a cache. It knows of each file what was
// written and what is on the platter, and at every call it makes copies of
// what a kill, or a power cut, would leave at that moment.
type drive struct {
	mu     sync.Mutex
	rand   *rand.Rand
	files  map[string]*model
	acked  []string // ids of records whose Record has returned nil
	failed map[string]bool
	states []crashState
	full   bool // writes fail half-way
}

// model is one file.
type model struct {
	file
	name    string
	d       *drive
	written []byte
	synced  []byte
	pending []func([]byte) []byte // what was done since, in order
}

// crashState is what one crash leaves.
type crashState struct {
	how   string
	files map[string][]byte
	acked []string
	after map[string]bool // records that failed: they must not come back
}

func (d *drive) wrap(name string, f file) file {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &model{file: f, name: name, d: d}
	d.files[name] = m
	return m
}

// write is what a write of b at off does to a file.
func write(b []byte, off int64) func([]byte) []byte {
	b = bytes.Clone(b)
	return func(old []byte) []byte {
		if need := int(off) + len(b); need > len(old) {
			old = append(old, make([]byte, need-len(old))...)
		}
		copy(old[off:], b)
		return old
	}
}

// snap takes the states of this moment. d.mu is held.
func (d *drive) snap(at string) {
	kill, lost, part, holes := map[string][]byte{}, map[string][]byte{}, map[string][]byte{}, map[string][]byte{}
	for name, m := range d.files {
		kill[name] = bytes.Clone(m.written)
		lost[name] = bytes.Clone(m.synced)
		// A power cut after some of what was pending, the last of it torn.
		b, n := bytes.Clone(m.synced), d.rand.IntN(len(m.pending)+1)
		for _, do := range m.pending[:n] {
			b = do(b)
		}
		if len(b) > len(m.synced) && d.rand.IntN(2) == 0 {
			b = b[:len(m.synced)+d.rand.IntN(len(b)-len(m.synced)+1)]
		}
		part[name] = b
		// A power cut that left the size, and not all of the blocks.
		b = bytes.Clone(m.written)
		for i := len(m.synced); i < len(b); i++ {
			end := min(len(b), i/64*64+64)
			if d.rand.IntN(2) == 0 {
				clear(b[i:end])
			}
			i = end - 1
		}
		holes[name] = b
	}
	for how, files := range map[string]map[string][]byte{"kill": kill, "power": lost, "power, part": part, "power, holes": holes} {
		d.states = append(d.states, crashState{how + " " + at, files, d.acked, maps.Clone(d.failed)})
	}
}

func (m *model) WriteAt(b []byte, off int64) (int, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.d.snap("before write of " + m.name)
	if m.d.full && m.name != "hashes" {
		b = b[:m.d.rand.IntN(len(b))]
		m.do(write(b, off))
		m.d.snap("in write of " + m.name)
		n, _ := m.file.WriteAt(b, off)
		return n, syscall.ENOSPC
	}
	m.do(write(b, off))
	m.d.snap("after write of " + m.name)
	return m.file.WriteAt(b, off)
}

func (m *model) do(f func([]byte) []byte) {
	m.written = f(m.written)
	m.pending = append(m.pending, f)
}

func (m *model) Truncate(size int64) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.do(func(b []byte) []byte { return b[:min(int(size), len(b))] })
	m.d.snap("after truncate of " + m.name)
	return m.file.Truncate(size)
}

func (m *model) Datasync() error { return m.Sync() }

func (m *model) Sync() error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.d.snap("before sync of " + m.name)
	m.synced, m.pending = bytes.Clone(m.written), nil
	m.d.snap("after sync of " + m.name)
	return nil
}

// At whatever call the machine stops, every record that was acknowledged is
// there, none that failed is, the log opens by itself, and it goes on.
func TestCrash(t *testing.T) {
	const seeds = 3
	for seed := range uint64(seeds) {
		d := &drive{rand: rand.New(rand.NewPCG(seed, 7)), files: map[string]*model{}, failed: map[string]bool{}}
		dir := scratchDir(t)
		a, _ := openLog(t, dir, Options{Checkpoint: 6}, d.wrap)
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() {
				for i := range 10 {
					id := fmt.Sprintf("%d-%d", w, i)
					err := a.Record(context.Background(), Event{Kind: KindIntent, ID: id})
					d.mu.Lock()
					if err == nil {
						d.acked = append(d.acked[:len(d.acked):len(d.acked)], id)
					} else {
						d.failed[id] = true
					}
					d.full = d.rand.IntN(3) == 0
					d.mu.Unlock()
				}
			})
		}
		wg.Wait()
		d.mu.Lock()
		d.full = false
		d.mu.Unlock()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if len(d.acked) == 0 || len(d.failed) == 0 || len(d.states) < 150 {
			t.Fatalf("nothing was tried: %d acknowledged, %d failed, %d states", len(d.acked), len(d.failed), len(d.states))
		}
		keys := readFolder(t, dir)
		clone := scratchDir(t)
		for i, s := range d.states {
			for _, name := range []string{"key", "key.pub", "lock"} {
				s.files[name] = keys[name]
			}
			writeFolder(t, clone, s.files)
			s.check(t, clone, i)
		}
		t.Logf("seed %d: %d states", seed, len(d.states))
	}
}

func (s crashState) check(t *testing.T, dir string, i int) {
	t.Helper()
	var bad *BadRecordError
	if _, err := Verify(dir); err != nil && !(errors.As(err, &bad) && bad.Why == noCheckpoint && len(s.acked) == 0) {
		t.Fatalf("state %d, %s: verify: %v", i, s.how, err)
	}
	a, rec, err := Open(dir, Options{})
	if err != nil {
		keep := filepath.Join(os.TempDir(), "cptest-crash")
		writeFolder(t, keep, s.files)
		t.Fatalf("state %d, %s: %v (kept in %s)", i, s.how, err, keep)
	}
	there := map[string]bool{}
	for _, e := range rec.Unfinished {
		there[e.ID] = true
	}
	for _, id := range s.acked {
		if !there[id] {
			t.Fatalf("state %d, %s: %s was acknowledged and is gone", i, s.how, id)
		}
	}
	for id := range there {
		if s.after[id] {
			t.Fatalf("state %d, %s: %s failed and is there", i, s.how, id)
		}
	}
	if err := errors.Join(a.Record(context.Background(), Event{Kind: KindIntent, ID: "next"}), a.Close()); err != nil {
		t.Fatalf("state %d, %s: %v", i, s.how, err)
	}
	if r, err := Verify(dir); err != nil || r.Records != rec.Records+3 || r.Torn != 0 {
		t.Fatalf("state %d, %s: %+v, %v", i, s.how, r, err)
	}
}
