package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// BadRecordError names the first record that is not what was written.
type BadRecordError struct {
	Seq uint64
	Why string
}

func (e *BadRecordError) Error() string { return fmt.Sprintf("record %d: %s", e.Seq, e.Why) }

// stride is how many records share one offset of the index. A page starts with
// reading over at most stride-1 lines.
const stride = 64

// scan reads a log from its first record to its last and holds it against its
// stored hashes and its checkpoints. Three things are known about a record:
// what stands in entries, which hash was stored when it was durable, and what a
// signed checkpoint says about all up to it. The signature decides; the stored
// hashes say which record it is, and cover those that no checkpoint covers yet.
type scan struct {
	entries     io.ReaderAt
	size        int64 // of entries, in bytes
	hashes      io.ReaderAt
	hashSize    int64 // of hashes, in bytes; 0 when there are none
	checkpoints []checkpoint
	live        bool // a daemon is writing: records that are not acknowledged yet are not looked at

	each func(h head, line []byte) error // called for every record that stands; may be nil

	// What was found.
	tree     tree
	end      int64 // where the last record ends, in bytes
	torn     int64 // bytes behind it, which a crash left
	last     string
	index    []int64 // offset of every stride'th record
	stale    bool    // the stored hashes are not those of the log and are to be written anew
	proven   int64   // records that a checkpoint covers
	suspect  int64   // the first record that differs from its stored hash; -1: none
	alt      tree    // the tree of the stored hashes, kept once there is a suspect
	altWhole bool    // alt had a stored hash for every record
}

// run does it. An error that is a *BadRecordError is about the log; any other
// is about reading it.
func (s *scan) run() error {
	s.suspect = -1
	hashed := recordsOf(s.hashSize / tlog.HashSize)
	var signed int64
	if n := len(s.checkpoints); n > 0 {
		signed = s.checkpoints[n-1].size
	}
	limit := int64(-1)
	if s.live {
		limit = max(hashed, signed)
	}
	in := bufio.NewReaderSize(io.NewSectionReader(s.entries, 0, s.size), int(min(s.size+1, 1<<20)))
	stored := bufio.NewReaderSize(io.NewSectionReader(s.hashes, 0, s.hashSize), int(min(s.hashSize+1, 1<<18)))
	next := s.covered(0)
	if next < 0 {
		return &BadRecordError{0, "the checkpoint of the empty log has another root"}
	}
	var long, hashBuf, storedBuf []byte
	for limit < 0 || s.tree.n < limit {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long, err = readLong(in, append(long[:0], line...))
			line = long
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errLine) {
			return fmt.Errorf("read audit entries: %w", err)
		}
		if len(line) == 0 {
			break
		}
		n := s.tree.n
		h, why := s.read(line, err == nil)
		if why == nil && n >= max(hashed, signed) {
			_, why = parseLine(line[:len(line)-1])
		}
		if why != nil {
			if s.suspect < 0 && n >= max(hashed, signed) && crashed(line, err == nil) {
				s.torn = s.size - s.end
				break
			}
			return s.name(n, why.Error())
		}
		line = line[:len(line)-1]

		leaf := tlog.RecordHash(line)
		storedBuf = readStored(stored, storedBuf, tlog.HashSize*(1+bits.TrailingZeros64(^uint64(n))))
		s.compare(leaf, storedBuf)
		hashBuf = s.tree.add(leaf, hashBuf[:0])
		s.stale = s.stale || !bytes.Equal(hashBuf, storedBuf)
		if n%stride == 0 {
			s.index = append(s.index, s.end)
		}
		s.end += int64(len(line)) + 1
		s.last = h.time
		if next < len(s.checkpoints) && s.checkpoints[next].size == s.tree.n {
			if next = s.covered(next); next < 0 {
				return s.blame()
			}
		}
		if s.each != nil {
			if err := s.each(h, line); err != nil {
				return err
			}
		}
	}
	return s.finish(hashed, signed, stored)
}

// read checks the form of the next line.
func (s *scan) read(line []byte, whole bool) (head, error) {
	if !whole {
		return head{}, errors.New("its line does not end")
	}
	h, err := parseHead(line[:len(line)-1])
	switch {
	case err != nil:
		return h, err
	case h.seq != uint64(s.tree.n):
		return h, fmt.Errorf("the record that stands in its place says that it is %d", h.seq)
	case h.time < s.last:
		return h, errors.New("its time is before that of the record before it")
	}
	return h, nil
}

// compare holds the next record against its stored hash.
func (s *scan) compare(leaf tlog.Hash, stored []byte) {
	var was tlog.Hash
	if len(stored) >= tlog.HashSize {
		copy(was[:], stored)
	}
	// A block that was never written reads as zeros.
	none := was == tlog.Hash{}
	if s.suspect < 0 && !none && was != leaf {
		s.suspect, s.alt, s.altWhole = s.tree.n, s.tree, true
	}
	if s.suspect >= 0 {
		s.altWhole = s.altWhole && !none
		s.alt.add(was, nil)
	}
}

// covered passes over the checkpoints that end at the present size and returns
// the number of the next one, or -1 when one of them has another root.
func (s *scan) covered(next int) int {
	for ; next < len(s.checkpoints) && s.checkpoints[next].size == s.tree.n; next++ {
		if s.checkpoints[next].root != s.tree.root() {
			return -1
		}
		s.proven = s.tree.n
		// The signature says that the records are right: it was the stored
		// hash that was not.
		s.suspect = -1
	}
	return next
}

// name is the error for a record that is wrong by itself, unless an earlier
// one is wrong already.
func (s *scan) name(n int64, why string) error {
	if s.suspect >= 0 && s.suspect < n {
		n, why = s.suspect, "it differs from the hash that was stored with it"
	}
	return &BadRecordError{uint64(n), why}
}

// blame names the record when a checkpoint has another root than the records
// up to it.
func (s *scan) blame() error {
	var root tlog.Hash
	for _, c := range s.checkpoints {
		if c.size == s.tree.n {
			root = c.root
		}
	}
	if s.suspect >= 0 && s.altWhole && s.alt.root() == root {
		return &BadRecordError{uint64(s.suspect), fmt.Sprintf("it is not what the checkpoint of %d records covers", s.tree.n)}
	}
	return &BadRecordError{uint64(s.proven), fmt.Sprintf(
		"it, or another one before record %d, is not what the checkpoint of %d records covers", s.tree.n, s.tree.n)}
}

// finish looks at what should have come after the last record.
func (s *scan) finish(hashed, signed int64, stored io.Reader) error {
	n := s.tree.n
	switch {
	case s.suspect >= 0:
		return s.name(n, "")
	case signed > n:
		return &BadRecordError{uint64(n), fmt.Sprintf("it is missing: a checkpoint covers %d records", signed)}
	case s.live:
		return nil
	}
	rest, err := io.ReadAll(io.LimitReader(stored, 65*tlog.HashSize))
	if err != nil {
		return fmt.Errorf("read audit hashes: %w", err)
	}
	if len(rest) > 0 {
		s.stale = true
	}
	if len(rest) >= tlog.HashSize && !bytes.Equal(rest[:tlog.HashSize], make([]byte, tlog.HashSize)) {
		return &BadRecordError{uint64(n), "it is missing: its hash is stored"}
	}
	return nil
}

// readLong reads the rest of a line that is longer than the buffer.
func readLong(in *bufio.Reader, line []byte) ([]byte, error) {
	for len(line) <= 2*maxLine {
		more, err := in.ReadSlice('\n')
		line = append(line, more...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
	return line, errLine
}

// readStored reads up to n bytes.
func readStored(in io.Reader, b []byte, n int) []byte {
	if cap(b) < n {
		b = make([]byte, n)
	}
	got, _ := io.ReadFull(in, b[:n])
	return b[:got]
}

// crashed reports whether a line that no record's line can be is what a crash
// leaves: one without an end, or one with blocks in it that were never
// written. Neither was ever acknowledged.
func crashed(line []byte, whole bool) bool {
	return !whole || bytes.IndexByte(line, 0) >= 0
}
