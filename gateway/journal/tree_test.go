package journal

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// The tree is tlog's, hash for hash.
func TestTreeIsTlog(t *testing.T) {
	var tr tree
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range at {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := int64(0); n < 1100; n++ {
		if want, _ := tlog.TreeHash(n, reader); tr.root() != want {
			t.Fatalf("root of %d records", n)
		}
		if count := tlog.StoredHashCount(n); recordsOf(count) != n || n > 0 && recordsOf(count-1) != n-1 {
			t.Fatalf("recordsOf(%d) = %d, want %d", count, recordsOf(count), n)
		}
		line := fmt.Appendf(nil, "line %d", n)
		want, err := tlog.StoredHashes(n, line, reader)
		if err != nil {
			t.Fatal(err)
		}
		var wantBytes []byte
		for _, h := range want {
			wantBytes = append(wantBytes, h[:]...)
		}
		if got := tr.add(tlog.RecordHash(line), nil); !bytes.Equal(got, wantBytes) {
			t.Fatalf("stored hashes of record %d", n)
		}
		stored = append(stored, want...)
	}
}

func testKeys(t testing.TB) *keys {
	t.Helper()
	b, err := makeKeys()
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKeys(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// notesOf signs checkpoints of these sizes.
func notesOf(t testing.TB, k *keys, sizes ...int64) []byte {
	t.Helper()
	var b []byte
	for _, n := range sizes {
		msg, err := checkpoint{n, tlog.RecordHash(fmt.Append(nil, n))}.sign(k.signer)
		if err != nil {
			t.Fatal(err)
		}
		b = append(append(b, msg...), '\n')
	}
	return b
}

// A checkpoint is what C2SP says it is: an unrelated reader can read it.
func TestCheckpointForm(t *testing.T) {
	k := testKeys(t)
	c := checkpoint{12345, tlog.RecordHash([]byte("x"))}
	msg, err := c.sign(k.signer)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(k.pub)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != v.Name() || lines[1] != "12345" || lines[2] != base64.StdEncoding.EncodeToString(c.root[:]) || lines[3] != "" {
		t.Errorf("checkpoint %q", n.Text)
	}
	if got, err := parseCheckpoint(msg, v); err != nil || got != c {
		t.Errorf("%+v, %v", got, err)
	}
}

// No byte of a file of checkpoints can be changed. (A zero byte in the last one
// is what a power cut leaves of it: to put one there is to take it away.)
func TestCheckpointsEveryByte(t *testing.T) {
	k := testKeys(t)
	good := notesOf(t, k, 0, 5, 5, 9)
	all, end, err := parseCheckpoints(good, k.verifier)
	if err != nil || len(all) != 4 || end != int64(len(good)) {
		t.Fatalf("%v %d %v", all, end, err)
	}
	for i := range good {
		for _, to := range []byte{good[i] ^ 1, good[i] ^ 0x20, '\n', ' ', 'A', 0xff} {
			if to == good[i] || to == 0 {
				continue
			}
			bad := bytes.Clone(good)
			bad[i] = to
			if all, end, err := parseCheckpoints(bad, k.verifier); err == nil {
				t.Fatalf("byte %d of %d: %q to %q: %d checkpoints, end %d", i, len(good), good[i], to, len(all), end)
			}
		}
	}
}

// A file of checkpoints that a crash cut short is read up to its last whole
// note, whatever the length, with or without blocks that were never written.
func TestCheckpointsTorn(t *testing.T) {
	k := testKeys(t)
	good := notesOf(t, k, 0, 5, 9)
	first, second := len(notesOf(t, k, 0)), len(notesOf(t, k, 0, 5))
	for n := range good {
		want := 2
		if n < first {
			want = 0
		} else if n < second {
			want = 1
		}
		for _, zeros := range []int{0, 1, 300} {
			all, _, err := parseCheckpoints(append(bytes.Clone(good[:n]), make([]byte, zeros)...), k.verifier)
			if err != nil || len(all) != want {
				t.Fatalf("cut at %d, %d zeros: %d checkpoints, want %d: %v", n, zeros, len(all), want, err)
			}
		}
	}
}

func TestCheckpointsRefuse(t *testing.T) {
	k, other := testKeys(t), testKeys(t)
	sign := func(text string) []byte {
		msg, err := note.Sign(&note.Note{Text: text}, k.signer)
		if err != nil {
			t.Fatal(err)
		}
		return append(msg, '\n')
	}
	name, root := k.signer.Name(), base64.StdEncoding.EncodeToString(make([]byte, 32))
	if _, _, err := parseCheckpoints(sign(name+"\n5\n"+root+"\nextension\n"), k.verifier); err != nil {
		t.Fatalf("an extension line: %v", err)
	}
	for what, b := range map[string][]byte{
		"another key":      notesOf(t, other, 3),
		"another origin":   sign("elsewhere\n5\n" + root + "\n"),
		"two lines":        sign(name + "\n5\n"),
		"a negative size":  sign(name + "\n-5\n" + root + "\n"),
		"a padded size":    sign(name + "\n05\n" + root + "\n"),
		"a huge size":      sign(name + "\n9223372036854775807\n" + root + "\n"),
		"a short root":     sign(name + "\n5\n" + root[:20] + "\n"),
		"an earlier size":  notesOf(t, k, 7, 3),
		"a contradiction":  append(notesOf(t, k, 5), sign(name+"\n5\n"+root+"\n")...),
		"endless text":     bytes.Repeat([]byte("x"), maxNote+1),
		"an unsigned note": []byte(name + "\n5\n" + root + "\n\n\n\n"),
	} {
		if all, _, err := parseCheckpoints(b, k.verifier); err == nil {
			t.Errorf("%s: taken as %v", what, all)
		}
	}
}

func TestKeysRefuse(t *testing.T) {
	good, err := makeKeys()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, len(good)-1).Draw(t, "length")
		if _, err := parseKeys(good[:n]); err == nil {
			t.Fatalf("taken: %d of %d bytes", n, len(good))
		}
	})
	if _, err := parseKeys(append(bytes.Clone(good), "x\n"...)); err == nil {
		t.Error("taken with a third line")
	}
}

// No file of checkpoints makes the reader fall over, and whatever it takes is
// signed.
func FuzzParseCheckpoints(f *testing.F) {
	v := toySigner{}
	good := notesOf(f, &keys{signer: v}, 0, 3, 8)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), "carapace.audit/fuzz\n9\n"...))
	f.Add([]byte("\n\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, end, err := parseCheckpoints(b, v)
		if end > int64(len(b)) {
			t.Fatalf("end %d of %d", end, len(b))
		}
		if err != nil {
			return
		}
		again, _, err := parseCheckpoints(b[:end], v)
		if err != nil || len(again) != len(all) {
			t.Fatalf("the whole part reads differently: %d, %d, %v", len(again), len(all), err)
		}
		if len(all) > 0 {
			if c, err := parseCheckpoint(lastNote(b[:end]), v); err != nil || c != all[len(all)-1] {
				t.Fatalf("last note: %v, %v", c, err)
			}
		}
	})
}

// toySigner signs so cheaply, and always the same, that the fuzzer gets past it.
type toySigner struct{}

func (toySigner) Name() string    { return "carapace.audit/fuzz" }
func (toySigner) KeyHash() uint32 { return 1 }

func (toySigner) Sign(msg []byte) ([]byte, error) {
	return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(msg)), nil
}

func (s toySigner) Verify(msg, sig []byte) bool {
	want, _ := s.Sign(msg)
	return bytes.Equal(want, sig)
}
