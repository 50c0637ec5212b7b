package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"
)

// Report is what Verify found in a log that holds.
type Report struct {
	Records     uint64
	Head        string // root of the tree of all Records, base64 as in a checkpoint
	Checkpoints int
	Signed      uint64 // records that the last checkpoint covers
	Last        string // the last checkpoint, a signed note: what a witness keeps
	Torn        int    // bytes of an unfinished record at the end, which a crash left
}

// What is wrong with a log of which a whole file is gone.
const (
	noEntries     = "the file of entries is missing"
	noCheckpoints = "the file of checkpoints is missing"
	noCheckpoint  = "there is no checkpoint at all"
)

// maxCheckpoints bounds the file of checkpoints, in bytes.
const maxCheckpoints = 1 << 30

// Verify holds every record of the log in dir against the tree and every
// checkpoint against its signature and the records it covers. It changes
// nothing and needs only the public key. While a daemon writes, it looks at
// the records that were acknowledged when it began.
//
// A record or checkpoint that is not what was written is a *BadRecordError; a
// bad checkpoint is named by the first record that it leaves uncovered. Any
// other error means that the log could not be read.
//
// What Verify cannot find is a folder that was replaced as a whole by an older
// state of itself, with checkpoints and all: that takes a checkpoint kept
// elsewhere, and VerifyWitness.
func Verify(dir string) (Report, error) { return verify(dir, nil) }

// VerifyWitness is Verify, and the log must also contain what witness covers: a
// Report.Last of an earlier Verify that was kept outside the folder.
func VerifyWitness(dir string, witness []byte) (Report, error) {
	if len(witness) == 0 {
		return Report{}, errors.New("verify audit log: the witnessed checkpoint is empty")
	}
	return verify(dir, witness)
}

func verify(dir string, witness []byte) (rep Report, err error) {
	defer func() {
		var bad *BadRecordError
		if err != nil && !errors.As(err, &bad) {
			err = fmt.Errorf("verify audit log: %w", err)
		}
	}()
	d, err := openFolder(dir, false, nil)
	if err != nil {
		return rep, err
	}
	defer d.close()
	v, err := loadVerifier(d)
	if err != nil {
		return rep, err
	}
	live, err := isLive(d)
	if err != nil {
		return rep, err
	}
	// The writer appends to entries first, then to hashes, then to
	// checkpoints. Reading in the other order, whatever is referred to is there.
	notes, err := d.read(fileCheckpoints, os.O_RDONLY, maxCheckpoints)
	if errors.Is(err, fs.ErrNotExist) {
		return rep, &BadRecordError{0, noCheckpoints}
	}
	if err != nil {
		return rep, err
	}
	s := &scan{live: live}
	cps, end, err := parseCheckpoints(notes, v)
	if err != nil {
		return rep, uncovered(cps, err)
	}
	s.checkpoints = cps
	hashes, err := d.openLog(fileHashes, os.O_RDONLY)
	switch {
	case err == nil:
		defer hashes.Close()
		s.hashes = hashes
		if s.hashSize, err = hashes.Size(); err != nil {
			return rep, err
		}
	case errors.Is(err, fs.ErrNotExist):
		s.hashes = emptyFile{}
	default:
		return rep, err
	}
	entries, err := d.openLog(fileEntries, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return rep, &BadRecordError{0, noEntries}
	}
	if err != nil {
		return rep, err
	}
	defer entries.Close()
	s.entries = entries
	if s.size, err = entries.Size(); err != nil {
		return rep, err
	}
	if len(cps) == 0 {
		// The first checkpoint is there before the first record is.
		return rep, &BadRecordError{0, noCheckpoint}
	}
	if err := s.witness(witness, v); err != nil {
		return rep, err
	}
	if err := s.run(); err != nil {
		return rep, err
	}
	return Report{
		Records:     uint64(s.tree.n),
		Head:        s.tree.root().String(),
		Checkpoints: len(cps),
		Signed:      uint64(cps[len(cps)-1].size),
		Last:        string(lastNote(notes[:end])),
		Torn:        int(s.torn),
	}, nil
}

// witness puts a checkpoint from elsewhere among those of the log.
func (s *scan) witness(msg []byte, v note.Verifier) error {
	if msg == nil {
		return nil
	}
	c, err := parseCheckpoint(msg, v)
	if err != nil {
		return fmt.Errorf("witnessed checkpoint: %w", err)
	}
	at := len(s.checkpoints)
	for at > 0 && s.checkpoints[at-1].size > c.size {
		at--
	}
	all := append([]checkpoint(nil), s.checkpoints[:at]...)
	s.checkpoints = append(append(all, c), s.checkpoints[at:]...)
	return nil
}

// lastNote cuts the last note out of a file of whole ones.
func lastNote(b []byte) []byte {
	for {
		n := noteLen(b)
		if n < 0 || n+1 >= len(b) {
			return b[:max(n, 0)]
		}
		b = b[n+1:]
	}
}

// uncovered turns a bad checkpoint into the error that names a record.
func uncovered(good []checkpoint, err error) error {
	var bad *badCheckpoint
	if !errors.As(err, &bad) {
		return err
	}
	var from int64
	if len(good) > 0 {
		from = good[len(good)-1].size
	}
	return &BadRecordError{uint64(from), fmt.Sprintf("nothing vouches for it: checkpoint %d is bad: %v", bad.index, bad.err)}
}

// isLive reports whether a daemon has the log open. A copy of a log has no
// lock, and no daemon.
func isLive(d *folder) (bool, error) {
	f, err := d.open(fileLock, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// Taken only to see whether it can be had: whole lines that are there
	// without a daemon stay as they are when one starts.
	defer f.Close()
	switch err := lock(f, unix.LOCK_SH); err {
	case nil:
		return false, nil
	case unix.EWOULDBLOCK:
		return true, nil
	default:
		return false, fmt.Errorf("lock %s: %w", filepath.Join(d.path, fileLock), err)
	}
}

// emptyFile is a file of no bytes.
type emptyFile struct{}

func (emptyFile) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
