package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// StagedFile is a file that a client has transferred whole.
type StagedFile struct {
	Handle string // the client's word for it: "file:3"
	Name   string // base name, as the client gave it, checked
	Size   int64
	SHA256 string // lower-case hex; of the bytes that are there
	Path   string // absolute; never told to a client
}

// Stage is the folder in which transferred files wait for the request that
// names them. It counts what each user has there, over all connections.
type Stage struct {
	dir  string
	root *os.Root
	lim  Limits

	mu   sync.Mutex
	use  map[uint32]usage
	last uint64 // folder that was made
}

type usage struct {
	count int
	bytes int64 // as announced, so that a promise is already paid for
}

// stagePrefix begins the name of every folder that a Stage makes.
const stagePrefix = "f-"

// NewStage makes dir (0700) if it is not there, and removes what a run before
// left in it. A folder that is a link, another user's, or open to others is an
// error.
func NewStage(dir string, l Limits) (*Stage, error) {
	fail := func(err error) (*Stage, error) { return nil, fmt.Errorf("staging folder %s: %w", dir, err) }
	if !filepath.IsAbs(dir) {
		return fail(errors.New("the path is not absolute"))
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail(err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fail(err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fail(errors.New("it is not a folder of ours that is closed to others (0700)"))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail(err)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagePrefix) {
			err = errors.Join(err, root.RemoveAll(e.Name()))
		}
	}
	if err != nil {
		root.Close()
		return fail(err)
	}
	return &Stage{dir: dir, root: root, lim: l.filled(), use: make(map[uint32]usage)}, nil
}

// Files returns an empty set of files of one connection of uid. It is to be
// released.
func (s *Stage) Files(uid uint32) *Files {
	return &Files{stage: s, uid: uid, all: make(map[string]*staged)}
}

// Close lets go of the folder; what is in it stays until the next NewStage.
func (s *Stage) Close() error { return s.root.Close() }

func (s *Stage) reserve(uid uint32, size int64) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.use[uid]
	if u.count >= s.lim.FileCount || size > s.lim.FileBytes-u.bytes {
		return refusal(CodeRate, "too many files are being transferred").
			withHint("wait until other transfers of this user have ended")
	}
	s.use[uid] = usage{u.count + 1, u.bytes + size}
	return nil
}

func (s *Stage) giveBack(uid uint32, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.use[uid]
	u.count--
	u.bytes -= size
	if u.count <= 0 {
		delete(s.use, uid)
		return
	}
	s.use[uid] = u
}

// Files is what one connection has transferred, or is transferring. A nil
// *Files holds nothing. Its methods are safe for concurrent use; their errors
// are *Error, to be told to the client.
type Files struct {
	stage *Stage
	uid   uint32

	mu       sync.Mutex
	last     int
	all      map[string]*staged
	released bool
}

type staged struct {
	StagedFile
	folder string
	file   *os.File // nil when it is whole
	hash   *digest
	got    int64
	expiry *time.Timer
}

// Open begins a file of exactly size bytes.
func (f *Files) Open(name string, size int64) (handle string, err error) {
	if f == nil {
		return "", refusal(CodeMethodNotFound, "files are not taken here")
	}
	if why := badName(name); why != "" {
		return "", refusal(CodeInvalidParams, "the file's name %s", why)
	}
	if size < 0 || size > f.stage.lim.FileBytes {
		return "", refusal(CodeInvalidParams, "a file must have between 0 and %d bytes", f.stage.lim.FileBytes)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released {
		return "", refusal(CodeUnavailable, "the connection has ended")
	}
	if err := f.stage.reserve(f.uid, size); err != nil {
		return "", err
	}
	folder, file, ferr := f.stage.create(name)
	if ferr != nil {
		f.stage.giveBack(f.uid, size)
		return "", noRoom(ferr)
	}
	f.last++
	s := &staged{
		StagedFile: StagedFile{
			Handle: fmt.Sprintf("file:%d", f.last),
			Name:   name,
			Size:   size,
			Path:   filepath.Join(f.stage.dir, folder, name),
		},
		folder: folder,
		file:   file,
		hash:   newDigest(),
	}
	s.expiry = time.AfterFunc(f.stage.lim.FileTTL, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.drop(s)
	})
	f.all[s.Handle] = s
	return s.Handle, nil
}

// create makes an empty file in a folder of its own, so that a name can be
// there twice and is exactly what a tool is given.
func (s *Stage) create(name string) (folder string, file *os.File, err error) {
	s.mu.Lock()
	s.last++
	folder = fmt.Sprintf("%s%d", stagePrefix, s.last)
	s.mu.Unlock()
	if err := s.root.Mkdir(folder, 0o700); err != nil {
		return "", nil, err
	}
	file, err = s.root.OpenFile(filepath.Join(folder, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		s.root.RemoveAll(folder)
	}
	return folder, file, err
}

// noRoom is all that a client learns when the disk fails it; cause is for the
// log of whoever unwraps it.
func noRoom(cause error) error {
	return fmt.Errorf("%w: %w", refusal(CodeUnavailable, "the gateway cannot store the file").
		withHint("the gateway's disk may be full"), cause)
}

// Data appends to a file that is being transferred: at most 256 KiB at a time,
// and never more than was announced.
func (f *Files) Data(handle string, data []byte) error {
	if f == nil {
		return refusal(CodeMethodNotFound, "files are not taken here")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.all[handle]
	if s == nil || s.file == nil {
		return refusal(CodeInvalidParams, "no file %s is being transferred", shown(handle))
	}
	if len(data) > maxChunk {
		return refusal(CodeInvalidParams, "more than %d bytes at a time", maxChunk)
	}
	if int64(len(data)) > s.Size-s.got {
		f.drop(s)
		return refusal(CodeInvalidParams, "the file is longer than announced")
	}
	if _, err := s.file.Write(data); err != nil {
		f.drop(s)
		return noRoom(err)
	}
	s.hash.write(data)
	s.got += int64(len(data))
	return nil
}

// Close ends the transfer of a file. The file is kept only if it has the
// announced size and the given SHA-256 (lower-case hex).
func (f *Files) Close(handle, sum string) (StagedFile, error) {
	if f == nil {
		return StagedFile{}, refusal(CodeMethodNotFound, "files are not taken here")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.all[handle]
	if s == nil || s.file == nil {
		return StagedFile{}, refusal(CodeInvalidParams, "no file %s is being transferred", shown(handle))
	}
	if s.got != s.Size {
		f.drop(s)
		return StagedFile{}, refusal(CodeInvalidParams, "the file is shorter than announced")
	}
	if s.SHA256 = s.hash.hex(); s.SHA256 != sum {
		f.drop(s)
		return StagedFile{}, refusal(CodeInvalidParams, "the file's SHA-256 is another one")
	}
	err := s.file.Close()
	s.file = nil
	if err != nil {
		f.drop(s)
		return StagedFile{}, noRoom(err)
	}
	return s.StagedFile, nil
}

// All returns the files that are whole, by handle.
func (f *Files) All() map[string]StagedFile {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	whole := make(map[string]StagedFile, len(f.all))
	for h, s := range f.all {
		if s.file == nil {
			whole[h] = s.StagedFile
		}
	}
	return whole
}

// Release removes all files. Nothing can be opened afterwards.
func (f *Files) Release() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released = true
	for _, s := range f.all {
		f.drop(s)
	}
}

// drop forgets a file, whole or not. f.mu is held.
func (f *Files) drop(s *staged) {
	if f.all[s.Handle] != s {
		return
	}
	delete(f.all, s.Handle)
	s.expiry.Stop()
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
	f.stage.root.RemoveAll(s.folder)
	f.stage.giveBack(f.uid, s.Size)
}

// badName says what is wrong with the base name of a file; nothing if it is
// fit to be one, to be an argument of a tool, and to be shown.
func badName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > 255:
		return "is longer than 255 bytes"
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	case strings.ContainsAny(name, `/\`):
		return "contains a separator"
	case name[0] == '.' || name[0] == '-':
		return "begins with a dot or a dash"
	case Escape(name) != name:
		return "contains characters that cannot be seen"
	}
	return ""
}
