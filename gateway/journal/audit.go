package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Sentinels that somebody tests for.
var (
	ErrClosed = errors.New("the audit log is closed")
	ErrLocked = errors.New("another process has the audit log open")
)

// Options are what Open wants to know.
type Options struct {
	Checkpoint int          // a signed checkpoint every so many records, besides those at start and stop; below 1: 1000
	HashFields []string     // fields that are written as keyed hashes; "peers" is the one there is
	Log        *slog.Logger // nil: nothing is said
	Version    string       // of the program, for the record of its start
}

// Recovery is what Open found from the time before.
type Recovery struct {
	Unfinished []Event // intents without an outcome, in order
	Torn       int     // bytes of an unfinished record that were cut off; it was never acknowledged
	Records    uint64  // records before the one of this start
}

// Audit is the open audit log. All methods are safe for concurrent use.
type Audit struct {
	dir      *folder
	lock     *os.File
	keys     *keys
	log      *slog.Logger
	every    int64
	hashPeer bool
	entries  file
	hashes   file
	notes    file // checkpoints

	wake   chan struct{} // has room for one: there is something for the clerk
	hurry  chan struct{} // has room for one: it cannot wait
	quit   chan struct{} // closed by Close
	ended  chan struct{} // closed by the clerk when it has ended
	once   sync.Once
	result error // of Close; written by once

	// turn has room for one: whoever has put something in is the one who
	// writes, and owns the files and what follows.
	turn    chan struct{}
	tree    tree
	last    string // time of the last record
	noteEnd int64  // where the next checkpoint goes
	signed  int64  // records that the last checkpoint covers
	behind  []byte // stored hashes that are not in their file yet
	hashEnd int64  // where they go; negative: no more are stored
	kept    []line // notes of a write that failed and was undone
	warned  bool   // somebody was told that writing fails
	crowded bool   // the last batch was of more than one
	lineBuf []byte

	// mu guards what follows. It is never held during a system call.
	mu      sync.Mutex
	forming *batch
	flying  *batch // being written; nil: none
	closing bool
	over    bool  // the files are being closed
	failed  error // nothing is taken any more
	stalled error // notes are kept that could not be written; no more are taken
	durable state
}

// state is the part of the log that is durable.
type state struct {
	tree  tree
	size  int64   // of entries, in bytes
	index []int64 // offset of every stride'th record; only ever appended to
}

// Open opens the log in dir, makes it when it is not there, verifies it whole,
// and writes the record of the start. The time it takes grows with the log:
// one to two seconds for a million records.
//
// It refuses a folder or file that belongs to somebody else, a link in place
// of a file, a log that another process has open (ErrLocked), and a log that
// does not hold (*BadRecordError): what was durable once is never repaired.
func Open(dir string, o Options) (*Audit, *Recovery, error) { return open(dir, o, nil) }

func open(dir string, o Options, wrap seam) (_ *Audit, _ *Recovery, err error) {
	a := &Audit{
		log:     o.Log,
		every:   int64(o.Checkpoint),
		wake:    make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
		turn:    make(chan struct{}, 1),
		forming: newBatch(),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.every < 1 {
		a.every = 1000
	}
	for _, f := range o.HashFields {
		if f != "peers" {
			return nil, nil, fmt.Errorf("open audit log: field %q cannot be hashed", cut(f, maxName))
		}
		a.hashPeer = true
	}
	defer func() {
		if err != nil {
			a.closeFiles()
			err = fmt.Errorf("open audit log: %w", err)
		}
	}()
	if a.dir, err = openFolder(dir, true, wrap); err != nil {
		return nil, nil, err
	}
	if a.lock, err = a.dir.open(fileLock, os.O_RDWR|os.O_CREATE); err != nil {
		return nil, nil, err
	}
	if err = waitLock(a.lock); err != nil {
		return nil, nil, err
	}
	rec, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	go a.clerk()
	if err = a.mark(Event{Kind: KindStart, PID: int32(os.Getpid()), Reason: o.Version}, false); err != nil {
		a.stop()
		return nil, nil, err
	}
	return a, rec, nil
}

// waitLock takes the lock. A Verify holds it for a moment, and a daemon that
// is being replaced for a little longer.
func waitLock(f *os.File) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := lock(f, unix.LOCK_EX)
		if err == nil {
			return nil
		}
		if err != unix.EWOULDBLOCK {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if wait > time.Second {
			return fmt.Errorf("%w: %s", ErrLocked, f.Name())
		}
		time.Sleep(wait)
	}
}

// Record takes e and returns when it is durable. Records that come together
// share one fdatasync; one that comes alone does its own and waits for nothing
// else. An error denies. If ctx ends while e waits for its turn, that is an
// error, and the record may be there all the same; whoever has the turn stays
// with the disk until it answers.
func (a *Audit) Record(ctx context.Context, e Event) error {
	b, err := a.put(ctx, e, entry{urgent: true})
	if err != nil {
		return err
	}
	return a.await(ctx, b)
}

// noteWait bounds how long Note waits for room when the disk is slow.
const noteWait = 5 * time.Second

// Note takes e in order and makes it durable within 50 ms. An error means that
// it was not taken. While the disk takes nothing, notes are refused.
func (a *Audit) Note(e Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), noteWait)
	defer cancel()
	_, err := a.put(ctx, e, entry{note: true})
	return err
}

// Flush returns when everything that was taken so far is durable.
func (a *Audit) Flush(ctx context.Context) error {
	a.mu.Lock()
	b := a.flying
	if len(a.forming.lines) > 0 || a.stalled != nil {
		b = a.forming
		b.urgent = true
	}
	err, over := a.failed, a.over
	a.mu.Unlock()
	if err != nil || b == nil || over {
		return err
	}
	return a.await(ctx, b)
}

// Digest is a keyed hash of parts, 32 hex digits. Without the log's key nobody
// can tell from it what it stands for, nor whether a guess is right. The same
// parts give the same digest for as long as the log lives; no other split of
// the same bytes does.
func (a *Audit) Digest(parts ...string) string { return a.keys.digest(parts...) }

// Head returns how many records are durable and the root of their tree,
// base64 as in a checkpoint.
func (a *Audit) Head() (records uint64, hash string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return uint64(a.durable.tree.n), a.durable.tree.root().String()
}

// Err returns the failure after which nothing is taken any more, and nil while
// the log works. A full disk is no such failure: Record then returns an error,
// and works again when there is room.
func (a *Audit) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

// Close writes the record of the stop and a last checkpoint. What comes after
// it is refused with ErrClosed. Calling it again returns the same.
func (a *Audit) Close() error {
	a.once.Do(func() {
		err := a.mark(Event{Kind: KindStop, PID: int32(os.Getpid())}, true)
		if e := a.stop(); err == nil {
			err = e
		}
		if err != nil {
			a.result = fmt.Errorf("close audit log: %w", err)
		}
	})
	return a.result
}

// stop writes what is left and lets go of the files.
func (a *Audit) stop() error {
	a.mu.Lock()
	a.closing = true
	a.mu.Unlock()
	close(a.quit)
	<-a.ended
	files := a.closeFiles()
	if a.failed != nil {
		return a.failed
	}
	return files
}

func (a *Audit) closeFiles() error {
	var errs []error
	for _, f := range []file{a.entries, a.hashes, a.notes} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
	}
	if a.dir != nil {
		errs = append(errs, a.dir.close())
	}
	return errors.Join(errs...)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
