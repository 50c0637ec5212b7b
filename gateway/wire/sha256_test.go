package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

func reference(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// Our SHA-256 is the standard library's, for every length around the bounds of
// a block and in whatever pieces the bytes come.
func TestDigest(t *testing.T) {
	for n := range 300 {
		b := bytes.Repeat([]byte{byte(n), 0xff, 0x80}, n)[:n]
		d := newDigest()
		d.write(b)
		if got := d.hex(); got != reference(b) {
			t.Fatalf("%d bytes: %s, want %s", n, got, reference(b))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := newDigest()
		var all []byte
		for _, p := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 200)).Draw(t, "pieces") {
			d.write(p)
			all = append(all, p...)
		}
		if got := d.hex(); got != reference(all) {
			t.Fatalf("%x: %s, want %s", all, got, reference(all))
		}
	})
	big := bytes.Repeat([]byte("0123456789abcde"), 1<<20)
	d := newDigest()
	d.write(big)
	if got := d.hex(); got != reference(big) {
		t.Fatalf("%d bytes: %s", len(big), got)
	}
}

func BenchmarkDigest(b *testing.B) {
	p := make([]byte, maxChunk)
	b.SetBytes(int64(len(p)))
	d := newDigest()
	for b.Loop() {
		d.write(p)
	}
}
