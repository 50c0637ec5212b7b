package shims

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxFile bounds what is sent, in bytes. It is the gateway's own bound for all
// files of one user at a time (wire.DefaultLimits), said here so that nothing
// is read and sent in vain.
const maxFile = 128 << 20

// localFile is a file of the user's that an argument names.
type localFile struct {
	*os.File
	name  string // base name
	size  int64
	where []int // the arguments to be replaced by its handle
}

// open opens the local file that args name, and returns args in a form whose
// words may be replaced. The error is a whole line, as the tool prints it.
//
// Where the option is given more than once the tools use the last one, and so
// the others name that file too.
func (t tool) open(args []string) (*localFile, []string, error) {
	if t.fileOption == "" || slices.ContainsFunc(args, func(a string) bool { return slices.Contains(t.answers, a) }) {
		return nil, args, nil
	}
	var where []int
	for i := 0; i+1 < len(args) && args[i] != "--"; i++ {
		// A value that looks like an option is none, for the tools' parsers.
		if args[i] == t.fileOption && !strings.HasPrefix(args[i+1], "-") && args[i+1] != "" {
			i++
			where = append(where, i)
		}
	}
	if len(where) == 0 {
		return nil, args, nil
	}
	path := absolute(args[where[len(where)-1]])
	f, err := openRegular(path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, os.ErrPermission):
		return nil, nil, errors.New(t.notFound + path)
	case err != nil:
		return nil, nil, errors.New(t.name + ": attachment " + path + ": " + err.Error())
	}
	f.name, f.where = filepath.Base(path), where
	return f, slices.Clone(args), nil
}

var (
	errIrregular = errors.New("not a regular file")
	errTooBig    = errors.New("more than " + strconv.Itoa(maxFile>>20) + " MiB")
)

// openRegular opens a regular file without waiting for anything: a pipe or a
// device would otherwise hold the shim up.
func openRegular(path string) (*localFile, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errIrregular
	case info.Size() > maxFile:
		err = errTooBig
	default:
		return &localFile{File: f, size: info.Size()}, nil
	}
	f.Close()
	return nil, err
}

// put replaces the words that named the file.
func (f *localFile) put(args []string, handle string) {
	for _, i := range f.where {
		args[i] = handle
	}
}

// absolute expands a leading ~ to the caller's home, and names a path from the
// root: the tools do both before they look, and print the outcome.
func absolute(path string) string {
	if home := os.Getenv("HOME"); home != "" {
		if path == "~" {
			path = home
		} else if rest, ok := strings.CutPrefix(path, "~/"); ok {
			path = strings.TrimRight(home, "/") + "/" + rest
		}
	}
	if !filepath.IsAbs(path) {
		if dir, err := os.Getwd(); err == nil {
			return filepath.Join(dir, path)
		}
	}
	return path
}
