package wire

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// digest computes SHA-256 (FIPS 180-4). It proves that a file arrived whole,
// and nothing secret goes through it.
//
// It is our own because importing crypto/sha256 costs every start of a shim a
// tenth of a millisecond, a tenth of what an empty program takes: that package
// brings the whole FIPS 140 module along. The tests hold it to crypto/sha256.
type digest struct {
	h     [8]uint32
	block [64]byte
	fill  int // bytes of block that wait
	total uint64
}

func newDigest() *digest {
	return &digest{h: [8]uint32{
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	}}
}

func (d *digest) write(p []byte) {
	d.total += uint64(len(p))
	if d.fill > 0 {
		n := copy(d.block[d.fill:], p)
		d.fill += n
		p = p[n:]
		if d.fill < len(d.block) {
			return
		}
		d.mix(d.block[:])
		d.fill = 0
	}
	for len(p) >= len(d.block) {
		d.mix(p[:len(d.block)])
		p = p[len(d.block):]
	}
	d.fill = copy(d.block[:], p)
}

// hex ends the computation and returns the digest in lower case.
func (d *digest) hex() string {
	total := d.total
	pad := [72]byte{0x80}
	n := 56 - d.fill // the mark, zeros, and then 8 bytes of length end a block
	if n < 1 {
		n += 64
	}
	binary.BigEndian.PutUint64(pad[n:], total*8)
	d.write(pad[:n+8])
	var sum [32]byte
	for i, w := range d.h {
		binary.BigEndian.PutUint32(sum[4*i:], w)
	}
	return hex.EncodeToString(sum[:])
}

func (d *digest) mix(block []byte) {
	var w [64]uint32
	for i := range 16 {
		w[i] = binary.BigEndian.Uint32(block[4*i:])
	}
	for i := 16; i < 64; i++ {
		x, y := w[i-15], w[i-2]
		w[i] = w[i-16] + w[i-7] +
			(bits.RotateLeft32(x, -7) ^ bits.RotateLeft32(x, -18) ^ x>>3) +
			(bits.RotateLeft32(y, -17) ^ bits.RotateLeft32(y, -19) ^ y>>10)
	}
	a, b, c, e, f, g, h := d.h[0], d.h[1], d.h[2], d.h[4], d.h[5], d.h[6], d.h[7]
	dd := d.h[3]
	for i := range 64 {
		t1 := h + (bits.RotateLeft32(e, -6) ^ bits.RotateLeft32(e, -11) ^ bits.RotateLeft32(e, -25)) +
			(e&f ^ ^e&g) + roundWords[i] + w[i]
		t2 := (bits.RotateLeft32(a, -2) ^ bits.RotateLeft32(a, -13) ^ bits.RotateLeft32(a, -22)) +
			(a&b ^ a&c ^ b&c)
		h, g, f, e, dd, c, b, a = g, f, e, dd+t1, c, b, a, t1+t2
	}
	for i, v := range [8]uint32{a, b, c, dd, e, f, g, h} {
		d.h[i] += v
	}
}

// roundWords are the first 32 bits of the fractional parts of the cube roots of
// the first 64 primes (FIPS 180-4, 4.2.2).
var roundWords = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}
