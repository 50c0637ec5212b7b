package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// sample makes a closed log of two sessions with a checkpoint every few
// records, and returns its files.
func sample(t testing.TB, records, every int) map[string][]byte {
	t.Helper()
	dir := logDir(t)
	for range 2 {
		a, _ := openLog(t, dir, Options{Checkpoint: every}, nil)
		for i := range records / 2 {
			small(t, a, i)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return readFolder(t, dir)
}

// killed returns the files of a log of which the last records are beyond the
// last checkpoint.
func killed(t testing.TB, records int) map[string][]byte {
	t.Helper()
	dir := logDir(t)
	a, _ := openLog(t, dir, Options{}, nil)
	for i := range records {
		small(t, a, i)
	}
	files := readFolder(t, dir)
	if r := must(t, dir); r.Records != uint64(records+1) || r.Signed != 1 {
		t.Fatalf("%+v", r)
	}
	return files
}

// small records an event whose line is short.
func small(t testing.TB, a *Audit, i int) {
	t.Helper()
	if err := a.Record(ctx(t), Event{Kind: KindIntent, ID: fmt.Sprint(i)}); err != nil {
		t.Fatal(err)
	}
}

// scratchDir is where a log can be written thousands of times: in memory, if
// there is such a place, since nothing here is about the disk.
func scratchDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cptest")
	if err != nil {
		return logDir(t)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "audit")
}

func lines(b []byte) [][]byte {
	l := bytes.SplitAfter(b, []byte("\n"))
	return l[:len(l)-1]
}

// firstDifference is the number of the first line that differs.
func firstDifference(a, b []byte) uint64 {
	x, y := lines(a), lines(b)
	for i := range x {
		if i >= len(y) || !bytes.Equal(x[i], y[i]) {
			return uint64(i)
		}
	}
	return uint64(len(x))
}

// found verifies and opens tampered files: both must name a record, the same,
// and opening must have changed nothing.
func found(t interface {
	Helper()
	Fatalf(string, ...any)
}, tb testing.TB, dir string, files map[string][]byte) uint64 {
	t.Helper()
	writeFolder(tb, dir, files)
	_, err := Verify(dir)
	var bad, bad2 *BadRecordError
	if !errors.As(err, &bad) {
		t.Fatalf("Verify: %v", err)
	}
	a, _, err := Open(dir, Options{})
	if err == nil {
		a.Close()
		t.Fatalf("Open took what Verify says of: %v", bad)
	}
	if !errors.As(err, &bad2) || *bad != *bad2 {
		t.Fatalf("Open: %v; Verify: %v", err, bad)
	}
	after := readFolder(tb, dir)
	if _, made := files["hashes"]; !made {
		delete(after, "hashes") // was made, empty
	}
	if !reflect.DeepEqual(after, files) {
		t.Fatalf("opening a log that does not hold changed it: %v", slices.Collect(maps.Keys(after)))
	}
	return bad.Seq
}

// with returns files with one of them replaced, or left out.
func with(files map[string][]byte, name string, b []byte) map[string][]byte {
	m := maps.Clone(files)
	if m[name] = b; b == nil {
		delete(m, name)
	}
	return m
}

// Any change of any byte of entries is found and named, signed or not.
func TestTamperEveryByteOfEntries(t *testing.T) {
	for name, files := range map[string]map[string][]byte{"signed": sample(t, 6, 3), "beyond the last checkpoint": killed(t, 3)} {
		t.Run(name, func(t *testing.T) {
			good, dir := files["entries"], scratchDir(t)
			for i := range good {
				to := [3]byte{good[i] ^ 1, '\n', 0}[i%3]
				if to == good[i] {
					to = ' '
				}
				bad := bytes.Clone(good)
				bad[i] = to
				want := uint64(bytes.Count(good[:i], []byte("\n")))
				if got := found(t, t, dir, with(files, "entries", bad)); got != want {
					t.Fatalf("byte %d, %q to %q: record %d named, it is in %d", i, good[i], to, got, want)
				}
			}
		})
	}
}

// Any change of any byte of checkpoints is found.
func TestTamperEveryByteOfCheckpoints(t *testing.T) {
	files, dir := sample(t, 6, 3), scratchDir(t)
	good := files["checkpoints"]
	for i := range good {
		to := [2]byte{good[i] ^ 1, '\n'}[i%2]
		if to == good[i] {
			to = ' '
		}
		bad := bytes.Clone(good)
		bad[i] = to
		found(t, t, dir, with(files, "checkpoints", bad))
	}
}

// The stored hashes are a cache: while the signatures say that the records are
// right, no damage to it is a reason to refuse, and Open makes it good.
func TestTamperHashesIsMended(t *testing.T) {
	files, dir := sample(t, 20, 4), scratchDir(t)
	good := files["hashes"]
	rapid.Check(t, func(rt *rapid.T) {
		bad := bytes.Clone(good)
		switch rapid.SampledFrom([]string{"flip", "cut", "zero", "more", "gone"}).Draw(rt, "how") {
		case "flip":
			bad[rapid.IntRange(0, len(bad)-1).Draw(rt, "at")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
		case "cut":
			bad = bad[:rapid.IntRange(0, len(bad)-1).Draw(rt, "at")]
		case "zero":
			clear(bad[rapid.IntRange(0, len(bad)-1).Draw(rt, "at"):])
		case "more":
			bad = append(bad, make([]byte, rapid.IntRange(1, 100).Draw(rt, "zeros"))...)
		case "gone":
			bad = nil
		}
		writeFolder(t, dir, with(files, "hashes", bad))
		if _, err := Verify(dir); err != nil {
			rt.Fatalf("Verify: %v", err)
		}
		a, _, err := Open(dir, Options{})
		if err != nil {
			rt.Fatalf("Open: %v", err)
		}
		a.Close()
		now, err := os.ReadFile(filepath.Join(dir, "hashes"))
		if err != nil || !bytes.HasPrefix(now, good) {
			rt.Fatalf("not made good: %v", err)
		}
	})
}

// Whatever is done to the lines of a signed log, with or without its stored
// hashes, is found; with them, the first record that is not what it was is
// named.
func TestTamperLines(t *testing.T) {
	files, dir := sample(t, 40, 7), scratchDir(t)
	good := files["entries"]
	rapid.Check(t, func(rt *rapid.T) {
		l := lines(bytes.Clone(good))
		at := func(name string) int { return rapid.IntRange(0, len(l)-1).Draw(rt, name) }
		for range rapid.IntRange(1, 3).Draw(rt, "changes") {
			switch rapid.SampledFrom([]string{"delete", "double", "swap", "copy", "cut", "insert", "bytes", "join"}).Draw(rt, "how") {
			case "delete":
				i := at("at")
				l = slices.Delete(l, i, min(len(l), i+rapid.IntRange(1, 5).Draw(rt, "n")))
			case "double":
				i := at("at")
				l = slices.Insert(l, i, l[i])
			case "swap":
				i, j := at("one"), at("other")
				l[i], l[j] = l[j], l[i]
			case "copy":
				l[at("to")] = l[at("from")]
			case "cut":
				l = l[:at("at")]
			case "insert":
				e, err := bounded(Event{Kind: "intent", ID: "forged"})
				if err != nil {
					rt.Fatal(err)
				}
				i := at("at")
				l = slices.Insert(l, i, appendTail(appendHead(nil, uint64(i), "2026-01-02T03:04:05.000006Z"), &e))
			case "bytes":
				i := at("line")
				l[i] = bytes.Clone(l[i])
				l[i][rapid.IntRange(0, len(l[i])-1).Draw(rt, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
			case "join":
				i := at("at")
				l[i] = bytes.TrimSuffix(bytes.Clone(l[i]), []byte("\n"))
			}
			if len(l) == 0 {
				break
			}
		}
		bad := bytes.Join(l, nil)
		if bytes.Equal(bad, good) {
			rt.Skip("nothing changed")
		}
		if !rapid.Bool().Draw(rt, "with hashes") {
			found(rt, t, dir, with(with(files, "entries", bad), "hashes", nil))
			return
		}
		if got, want := found(rt, t, dir, with(files, "entries", bad)), firstDifference(good, bad); got != want {
			rt.Fatalf("record %d named, %d is the first that differs", got, want)
		}
	})
}

// A log cut to any shorter length, at whatever byte, is found, named by the
// record that is gone.
func TestTamperTruncate(t *testing.T) {
	for name, files := range map[string]map[string][]byte{"signed": sample(t, 6, 3), "beyond the last checkpoint": killed(t, 3)} {
		t.Run(name, func(t *testing.T) {
			good, dir := files["entries"], scratchDir(t)
			for n := range good {
				want := uint64(bytes.Count(good[:n], []byte("\n")))
				if got := found(t, t, dir, with(files, "entries", good[:n:n])); got != want {
					t.Fatalf("cut to %d bytes: record %d named, %d is gone", n, got, want)
				}
			}
			if got := found(t, t, dir, with(files, "entries", nil)); got != 0 {
				t.Fatalf("no entries: record %d named", got)
			}
		})
	}
}

// An older state of the records and their hashes, in itself right, below a
// newer checkpoint.
func TestTamperOlderPrefix(t *testing.T) {
	files, dir := sample(t, 20, 4), scratchDir(t)
	l := lines(files["entries"])
	for n := range l {
		old := with(files, "entries", bytes.Join(l[:n], nil))
		old["hashes"] = files["hashes"][:tlog.StoredHashCount(int64(n))*tlog.HashSize]
		if got := found(t, t, dir, old); got != uint64(n) {
			t.Fatalf("%d records left: %d named", n, got)
		}
	}
}

// Somebody who can rewrite records and hashes to fit each other cannot sign.
func TestTamperWithFittingHashes(t *testing.T) {
	files, dir := sample(t, 20, 4), scratchDir(t)
	rapid.Check(t, func(rt *rapid.T) {
		l := lines(bytes.Clone(files["entries"]))
		i := rapid.IntRange(0, len(l)-1).Draw(rt, "record")
		l[i] = bytes.Replace(l[i], []byte(`"kind":"`), []byte(`"kind":"x`), 1)
		var tr tree
		var hashes []byte
		for _, line := range l {
			hashes = tr.add(tlog.RecordHash(line[:len(line)-1]), hashes)
		}
		bad := with(with(files, "entries", bytes.Join(l, nil)), "hashes", hashes)
		if got := found(rt, t, dir, bad); got > uint64(i) || uint64(i)-got >= 8 {
			rt.Fatalf("record %d named, %d was forged", got, i)
		}
	})
}

func TestTamperCheckpointsGone(t *testing.T) {
	files, dir := sample(t, 6, 3), scratchDir(t)
	found(t, t, dir, with(files, "checkpoints", []byte{}))
	found(t, t, dir, with(files, "checkpoints", nil))
	other := sample(t, 6, 3)
	found(t, t, dir, with(files, "checkpoints", other["checkpoints"]))
}

// A whole folder that was put back to an older state of itself is right in
// itself; only what was kept elsewhere says that it is old.
func TestWitness(t *testing.T) {
	dir := logDir(t)
	a, _ := openLog(t, dir, Options{}, nil)
	record(t, a, KindIntent, "aa")
	a.Close()
	old, kept := readFolder(t, dir), must(t, dir)
	b, _ := openLog(t, dir, Options{}, nil)
	record(t, b, KindOutcome, "aa")
	b.Close()
	now := must(t, dir)
	for _, w := range []string{kept.Last, now.Last} {
		if _, err := VerifyWitness(dir, []byte(w)); err != nil {
			t.Errorf("the log itself: %v", err)
		}
	}
	writeFolder(t, dir, old)
	if r := must(t, dir); r.Records != kept.Records {
		t.Fatalf("%+v", r)
	}
	if _, err := VerifyWitness(dir, []byte(kept.Last)); err != nil {
		t.Errorf("the same state: %v", err)
	}
	var bad *BadRecordError
	if _, err := VerifyWitness(dir, []byte(now.Last)); !errors.As(err, &bad) || bad.Seq != kept.Records {
		t.Errorf("the older state: %v", err)
	}
	// Another history from the old state on.
	c, _ := openLog(t, dir, Options{}, nil)
	for range 5 {
		record(t, c, KindIntent, "bb")
	}
	c.Close()
	must(t, dir)
	if _, err := VerifyWitness(dir, []byte(now.Last)); !errors.As(err, &bad) {
		t.Errorf("another history: %v", err)
	}
	for _, w := range []string{"", "x", must(t, func() string { d := logDir(t); x, _ := openLog(t, d, Options{}, nil); x.Close(); return d }()).Last} {
		if _, err := VerifyWitness(dir, []byte(w)); err == nil {
			t.Errorf("witness %q taken", w)
		}
	}
}

// Nothing that stands in the files makes the reader fall over, and what it
// takes is numbered and whole.
func FuzzScan(f *testing.F) {
	files := readFolder(f, "testdata/golden")
	f.Add(files["entries"], files["hashes"], false)
	f.Add(files["entries"][:700], []byte{}, false)
	f.Add(files["entries"][:700], files["hashes"], true)
	f.Add(append(files["entries"][:1000:1000], make([]byte, 300)...), []byte{}, false)
	f.Add([]byte("\n\n"), make([]byte, 64), true)
	f.Fuzz(func(t *testing.T, entries, hashes []byte, live bool) {
		s := &scan{
			entries: bytes.NewReader(entries), size: int64(len(entries)),
			hashes: bytes.NewReader(hashes), hashSize: int64(len(hashes)),
			checkpoints: []checkpoint{{0, (&tree{}).root()}}, live: live,
		}
		n := int64(0)
		s.each = func(h head, line []byte) error {
			if e, err := parseLine(line); err == nil && e.Seq != uint64(n) {
				t.Fatalf("record %d says that it is %d", n, e.Seq)
			}
			n++
			return nil
		}
		err := s.run()
		var bad *BadRecordError
		if err != nil && !errors.As(err, &bad) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		if n != s.tree.n || int64(bytes.Count(entries[:s.end], []byte("\n"))) != n || !live && s.end+s.torn != s.size {
			t.Fatalf("%d records, %d in the tree, end %d, torn %d of %d", n, s.tree.n, s.end, s.torn, s.size)
		}
	})
}
