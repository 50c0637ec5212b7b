package journal

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// event is a record of the usual size.
func event(id string) Event {
	uid, exit := uint32(1001), 0
	return Event{
		Kind: KindIntent, ID: id, ClientUID: &uid, PID: 4711, Channel: "imessage", Direction: "outbound",
		Verb: "send", Command: "send", Peers: []string{"+15551234567"}, Verdict: "allow",
		Rule: "config.yaml:31", Reason: "on the list", Opinions: []string{"peer:config.yaml:31:allow", "rate:imessage:allow"},
		Exit: &exit, Digest: "0123456789abcdef0123456789abcdef",
	}
}

// benchDir is a folder on the disk that the benchmarks are about.
func benchDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("CARAPACE_BENCH_DIR"), "cptest")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	b.Logf("folder on %s", fileSystem(b, dir))
	return dir
}

func benchAudit(b *testing.B) *Audit {
	b.Helper()
	a, _, err := Open(filepath.Join(benchDir(b), "audit"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := a.Close(); err != nil {
			b.Error(err)
		}
	})
	return a
}

// BenchmarkRawAppend is the floor: one append and one fdatasync, nothing else.
func BenchmarkRawAppend(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(benchDir(b), "raw"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	e := event("0123456789")
	buf := appendTail(appendHead(nil, 1, "2026-01-02T03:04:05.000006Z"), &e)
	var off int64
	for b.Loop() {
		if _, err := f.WriteAt(buf, off); err != nil {
			b.Fatal(err)
		}
		if err := datasync(f); err != nil {
			b.Fatal(err)
		}
		off += int64(len(buf))
	}
}

func BenchmarkRecord(b *testing.B) {
	a := benchAudit(b)
	e := event("0123456789")
	for b.Loop() {
		if err := a.Record(context.Background(), e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecordVersusRaw takes turns, so that what else the machine does
// falls on both, and says how many times a raw append the median Record takes.
func BenchmarkRecordVersusRaw(b *testing.B) {
	dir := benchDir(b)
	f, err := os.OpenFile(filepath.Join(dir, "raw"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	a, _, err := Open(filepath.Join(dir, "audit"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	e := event("0123456789")
	buf := appendTail(appendHead(nil, 1, "2026-01-02T03:04:05.000006Z"), &e)
	var off int64
	var raw, rec []time.Duration
	for b.Loop() {
		t0 := time.Now()
		if _, err := f.WriteAt(buf, off); err != nil {
			b.Fatal(err)
		}
		if err := datasync(f); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := a.Record(context.Background(), e); err != nil {
			b.Fatal(err)
		}
		raw, rec = append(raw, t1.Sub(t0)), append(rec, time.Since(t1))
		off += int64(len(buf))
	}
	slices.Sort(raw)
	slices.Sort(rec)
	n := len(raw) / 2
	b.ReportMetric(float64(raw[n].Microseconds()), "raw-p50-µs")
	b.ReportMetric(float64(rec[n].Microseconds()), "record-p50-µs")
	b.ReportMetric(float64(rec[n])/float64(raw[n]), "times-raw")
}

func BenchmarkRecordParallel64(b *testing.B) {
	a := benchAudit(b)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		e := event("0123456789")
		for pb.Next() {
			if err := a.Record(context.Background(), e); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkNote(b *testing.B) {
	a := benchAudit(b)
	e := event("0123456789")
	for b.Loop() {
		if err := a.Note(e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens, and so verifies, a log of 100,000 records; divide by it.
func BenchmarkOpen(b *testing.B) {
	dir := filepath.Join(benchDir(b), "audit")
	a, _, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for range 100000 {
		e := event("0123456789")
		e.Kind = KindRead
		if err := a.Note(e); err != nil {
			b.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		a, _, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := a.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
