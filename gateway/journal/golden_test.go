package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// The log in testdata/golden was written by the first version. It must verify,
// open and read the same for ever; it is never made anew.
func TestGolden(t *testing.T) {
	const dir, head = "testdata/golden", "bE8kFtpbsUO606IP6hXR11Ec+qsm77tVRAWY4tVe/x8="
	r := must(t, dir)
	if r.Records != 24 || r.Head != head || r.Checkpoints != 9 || r.Signed != 24 || r.Torn != 0 {
		t.Errorf("%+v", r)
	}
	if _, err := VerifyWitness(dir, []byte(r.Last)); err != nil {
		t.Error(err)
	}
	files := readFolder(t, dir)
	copied := logDir(t)
	writeFolder(t, copied, files)
	a, rec := openLog(t, copied, Options{}, nil)
	if rec.Records != 24 || len(rec.Unfinished) != 2 || rec.Unfinished[0].ID != "5555555555" || rec.Unfinished[1].Seq != 22 {
		t.Errorf("%+v", rec)
	}
	if d := a.Digest("x"); d != "7f108d35bdecaaf2b0114000747191fc" {
		t.Errorf("digest %s", d)
	}
	all := allEvents(t, a)
	kinds := []Kind{KindStart, KindIntent, KindOutcome, KindRefused, KindHeld, KindRead, KindDropped, KindAdmin, KindIntent, KindInterrupted, KindIntent, KindStop}
	for i, k := range kinds {
		if all[i].Kind != k || all[i+12].Kind != k {
			t.Errorf("record %d is %s, not %s", i, all[i].Kind, k)
		}
	}
	e := all[2]
	if e.ID != "0a1b2c3d4e" || *e.Exit != 77 || e.Reason != "the tool failed: \"no\"\n\x1b[31mred\u202e\u200b é 漢 😀 \\ / <&>" {
		t.Errorf("%+v", e)
	}
	// What is written is written the same: a second writer of the same record
	// makes the same bytes.
	old := lines(files["entries"])
	for i := range old {
		e := all[i]
		again := appendTail(appendHead(nil, e.Seq, e.Time), &e)
		if !bytes.Equal(again, old[i]) {
			t.Errorf("record %d is written as\n%snot as\n%s", i, again, old[i])
		}
	}
}

// Others can check the log with nothing of ours: the stored hashes are tlog's,
// and prove each record to be in the tree of the last checkpoint.
func TestGoldenProofs(t *testing.T) {
	files := readFolder(t, "testdata/golden")
	stored := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range at {
			out = append(out, tlog.Hash(files["hashes"][i*tlog.HashSize:(i+1)*tlog.HashSize]))
		}
		return out, nil
	})
	root, err := tlog.ParseHash("bE8kFtpbsUO606IP6hXR11Ec+qsm77tVRAWY4tVe/x8=")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines(files["entries"]) {
		proof, err := tlog.ProveRecord(24, int64(i), stored)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, 24, root, int64(i), tlog.RecordHash(bytes.TrimSuffix(line, []byte("\n")))); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
}

// So must the outbox of the first version open, and its letters be read.
func TestGoldenOutbox(t *testing.T) {
	b, err := os.ReadFile("testdata/outbox-1.db")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "outbox.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	o := openOutbox(t, path, OutboxOptions{KeepContent: true})
	if l, err := o.Get(ctx(t), "7f3c9a0001"); err != nil || !sameLetter(l, letter("7f3c9a0001", StateHeld)) {
		t.Errorf("%+v, %v", l, err)
	}
	again := letter("x", StateRefused)
	again.Digest = "digest of 7f3d000000"
	if id, err := o.Later(again); err != nil || id != "7f3d000000" {
		t.Error(id, err)
	}
	if l, err := o.Get(ctx(t), "7f3d"); err != nil || l.Count != 4 || l.Body != "body of 7f3d000000" {
		t.Errorf("%+v, %v", l, err)
	}
}
