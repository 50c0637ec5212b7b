package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// tree is the right edge of a Merkle tree (RFC 6962): all that is needed to
// add a record and to say the root. level[i] is the hash of the last full
// subtree of 2^i records, and counts when bit i of n is set.
type tree struct {
	n     int64
	level [64]tlog.Hash
}

// add takes the hash of the next record and appends to b the hashes that
// tlog's storage order wants stored with it.
func (t *tree) add(h tlog.Hash, b []byte) []byte {
	b = append(b, h[:]...)
	i := 0
	for m := t.n; m&1 == 1; m >>= 1 {
		h = tlog.NodeHash(t.level[i], h)
		b = append(b, h[:]...)
		i++
	}
	t.level[i] = h
	t.n++
	return b
}

// root is the hash of the whole tree.
func (t *tree) root() tlog.Hash {
	if t.n == 0 {
		return sha256.Sum256(nil)
	}
	var h tlog.Hash
	first := true
	for i, m := 0, t.n; m > 0; i, m = i+1, m>>1 {
		switch {
		case m&1 == 0:
		case first:
			h, first = t.level[i], false
		default:
			h = tlog.NodeHash(t.level[i], h)
		}
	}
	return h
}

// recordsOf says how many whole records the first count stored hashes belong to.
func recordsOf(count int64) int64 {
	// StoredHashCount(n) lies between n and 2n.
	lo, hi := int64(0), count
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		if tlog.StoredHashCount(mid) <= count {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// checkpoint is what a signed note says: the first size records have this root.
type checkpoint struct {
	size int64
	root tlog.Hash
}

// text is the body of the note, as C2SP tlog-checkpoint has it.
func (c checkpoint) text(origin string) string {
	return origin + "\n" + strconv.FormatInt(c.size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.root[:]) + "\n"
}

// sign makes the note.
func (c checkpoint) sign(s note.Signer) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.text(s.Name())}, s)
}

// parseCheckpoint opens one signed note and reads it.
func parseCheckpoint(msg []byte, v note.Verifier) (checkpoint, error) {
	var c checkpoint
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		var bad *note.InvalidSignatureError
		var un *note.UnverifiedNoteError
		switch {
		case errors.As(err, &bad):
			return c, errors.New("its signature does not verify")
		case errors.As(err, &un):
			return c, errors.New("it is not signed with this log's key")
		}
		return c, err
	}
	// Base64 with stray bits would let one signature be written in two ways.
	for _, sig := range append(n.Sigs, n.UnverifiedSigs...) {
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return c, errors.New("its signature is not written as it should be")
		}
	}
	// Lines after the third are extensions and may be anything.
	lines := bytes.SplitN([]byte(n.Text), []byte("\n"), 4)
	if len(lines) != 4 {
		return c, errors.New("it has fewer than three lines")
	}
	if string(lines[0]) != v.Name() {
		return c, errors.New("it is about another log")
	}
	size, err := strconv.ParseInt(string(lines[1]), 10, 64)
	if err != nil || size < 0 || size > math.MaxInt64/64 || strconv.FormatInt(size, 10) != string(lines[1]) {
		return c, fmt.Errorf("its size is %.30q", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(string(lines[2]))
	if err != nil || len(root) != tlog.HashSize {
		return c, errors.New("its root is no hash")
	}
	c.size = size
	copy(c.root[:], root)
	return c, nil
}

// badCheckpoint says which note of a file is wrong.
type badCheckpoint struct {
	index int // from 0
	err   error
}

func (e *badCheckpoint) Error() string { return fmt.Sprintf("checkpoint %d: %v", e.index, e.err) }

// maxNote bounds one checkpoint in the file, in bytes.
const maxNote = 4096

// parseCheckpoints reads a file of notes, each followed by an empty line. end
// is where the last whole note ends; what stands behind it was never
// finished. Sizes never get smaller, since every later note covers what the
// earlier ones did.
func parseCheckpoints(data []byte, v note.Verifier) (all []checkpoint, end int64, err error) {
	rest := data
	for len(rest) > 0 {
		n := noteLen(rest)
		if n < 0 || n+1 == len(rest) && bytes.IndexByte(rest, 0) >= 0 {
			if err := unfinished(rest, v); err != nil {
				return all, end, &badCheckpoint{len(all), err}
			}
			break
		}
		c, err := parseCheckpoint(rest[:n], v)
		if err == nil && len(all) > 0 && c.size < all[len(all)-1].size {
			err = errors.New("it is of fewer records than the one before it")
		}
		if err == nil && len(all) > 0 && c.size == all[len(all)-1].size && c.root != all[len(all)-1].root {
			err = errors.New("it contradicts the one before it")
		}
		if err != nil {
			return all, end, &badCheckpoint{len(all), err}
		}
		all = append(all, c)
		rest = rest[n+1:]
		end = int64(len(data) - len(rest))
	}
	return all, end, nil
}

// noteLen returns the length of the note at the start of b, or -1 when its
// end, a line of a signature followed by an empty line, is not there.
func noteLen(b []byte) int {
	body := bytes.Index(b, []byte("\n\n"))
	if body < 0 {
		return -1
	}
	sigs := bytes.Index(b[body+2:], []byte("\n\n"))
	if sigs < 0 {
		return -1
	}
	return body + 2 + sigs + 1
}

// unfinished returns nil if b, the end of the file, can be what a crash leaves
// of a note: the beginning of one, or one with blocks that were never written.
// If it cannot, somebody changed it.
func unfinished(b []byte, v note.Verifier) error {
	if len(b) > maxNote {
		return errors.New("it does not end")
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	body := bytes.Index(b, []byte("\n\n"))
	if body < 0 {
		text, ok := v.Name()+"\n", true
		if len(b) < len(text) {
			ok = text[:len(b)] == string(b)
		} else {
			ok = bytes.HasPrefix(b, []byte(text))
		}
		if !ok {
			return errors.New("it is about another log")
		}
		return nil
	}
	if bytes.Count(b[:body], []byte("\n")) != 2 || !bytes.HasPrefix(b, []byte(v.Name()+"\n")) {
		return errors.New("its text is not what this log writes")
	}
	sig := b[body+2:]
	line, after, whole := bytes.Cut(sig, []byte("\n"))
	if whole {
		if len(after) > 0 {
			return errors.New("something stands behind its signature")
		}
		_, err := parseCheckpoint(b, v)
		return err
	}
	want := "— " + v.Name() + " "
	if len(line) < len(want) && want[:len(line)] == string(line) || bytes.HasPrefix(line, []byte(want)) {
		return nil
	}
	return errors.New("its signature is none")
}
