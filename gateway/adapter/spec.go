package adapter

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

// Defaults for the fields of a Spec that are zero.
const (
	DefaultTimeout   = 30 * time.Second
	DefaultMaxOutput = 8 << 20
)

// Spec says which tool is run and how. It is read once, at construction.
type Spec struct {
	Name string // the channel's name, for logs: "imessage"
	Tool string // absolute path in its canonical form, without links
	// Args follow argv[0] of a resident child: ["rpc"]. A one-shot run takes
	// its arguments from the Command.
	Args []string
	// SHA256 pins the tool's content (hex). Empty: ownership alone decides.
	SHA256 string
	Dir    string   // working folder of the child; must exist and be the service user's own
	Home   string   // HOME of the child; absolute
	Env    []string // more variables, NAME=value; see Check for what is refused
	// Timeout bounds one run, or one request from the moment it was written.
	// Past it the child is killed. Zero: DefaultTimeout.
	Timeout time.Duration
	// MaxOutput bounds, in bytes, what one run prints on both streams
	// together, or one line of a resident child. Zero: DefaultMaxOutput.
	MaxOutput int64
	// TrustOwner lists uids besides root that may own the tool and the folders
	// above it. Empty in production.
	TrustOwner []uint32
	// Probe is asked of a resident child right after its start; until it was
	// answered the state is "starting" and callers wait. It must have no
	// effect. Nil: a child that was started counts as ready.
	Probe *channel.Request
	Log   *slog.Logger // nil: nothing is logged
}

// Check reports what is wrong with the Spec itself, whatever the state of the
// machine. A Runner made from a Spec that fails it refuses every command.
func (s *Spec) Check() error {
	switch {
	case s.Name == "":
		return errors.New("the channel has no name")
	case !filepath.IsAbs(s.Tool) || filepath.Clean(s.Tool) != s.Tool:
		return fmt.Errorf("tool of %s: %q is not an absolute path in its shortest form", s.Name, s.Tool)
	case !filepath.IsAbs(s.Dir):
		return fmt.Errorf("tool of %s: working folder %q is not absolute", s.Name, s.Dir)
	case !filepath.IsAbs(s.Home):
		return fmt.Errorf("tool of %s: home %q is not absolute", s.Name, s.Home)
	case s.Timeout < 0 || s.MaxOutput < 0:
		return fmt.Errorf("tool of %s: a negative bound", s.Name)
	case s.SHA256 != "" && !isSHA256(s.SHA256):
		return fmt.Errorf("tool of %s: %q is not a SHA-256 in hexadecimal", s.Name, s.SHA256)
	}
	for _, v := range s.Env {
		if err := checkVariable(v); err != nil {
			return fmt.Errorf("tool of %s: %w", s.Name, err)
		}
	}
	return nil
}

func (s *Spec) timeout() time.Duration {
	if s.Timeout == 0 {
		return DefaultTimeout
	}
	return s.Timeout
}

func (s *Spec) maxOutput() int64 {
	if s.MaxOutput == 0 {
		return DefaultMaxOutput
	}
	return s.MaxOutput
}

func (s *Spec) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return s.Log.With("channel", s.Name)
}

// tmp is the child's TMPDIR: in its own folder, because what a tool leaves in
// a shared one is readable or at least visible to the agent.
func (s *Spec) tmp() string { return filepath.Join(s.Dir, "tmp") }

// environ is the whole environment of a child. Nothing of the daemon's is in
// it.
func (s *Spec) environ() []string {
	return append([]string{
		"PATH=/usr/bin:/bin:/usr/sbin:/sbin",
		"HOME=" + s.Home,
		"LANG=C.UTF-8",
		"TMPDIR=" + s.tmp(),
	}, s.Env...)
}

var errFolder = errors.New("the tool's working folder cannot be used")

// prepare makes the folder that TMPDIR names.
func (s *Spec) prepare() error {
	err := os.Mkdir(s.tmp(), 0o700)
	if err == nil {
		return nil
	}
	if info, statErr := os.Lstat(s.tmp()); statErr == nil && info.IsDir() {
		return nil
	}
	return fmt.Errorf("%w: %w", errFolder, err)
}

// ours are the variables that environ sets itself.
var ours = []string{"PATH", "HOME", "LANG", "TMPDIR"}

// hijackers are variables by which a loader, a shell or a language runtime is
// told to run or read something else; hijacking are beginnings of such.
var (
	hijackers = []string{
		"GCONV_PATH", "GLIBC_TUNABLES", "LOCPATH", "NLSPATH", "HOSTALIASES", "RES_OPTIONS",
		"ENV", "IFS", "CDPATH", "SHELLOPTS", "BASHOPTS", "PS4",
		"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "GODEBUG", "GOTRACEBACK",
	}
	hijacking = []string{"LD_", "DYLD_", "MALLOC_", "BASH_", "PYTHON", "PERL", "RUBY", "NODE_", "HOMEBREW_"}
)

// checkVariable accepts NAME=value where NAME is upper case, digits and
// underscores, and is neither ours nor a hijacker's.
func checkVariable(v string) error {
	name, value, ok := strings.Cut(v, "=")
	if !ok || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || name[0] >= '0' && name[0] <= '9' {
		return fmt.Errorf("environment variable %q is not NAME=value", name)
	}
	if slices.Contains(ours, name) {
		return fmt.Errorf("environment variable %s is fixed", name)
	}
	if slices.Contains(hijackers, name) || slices.ContainsFunc(hijacking, func(h string) bool { return strings.HasPrefix(name, h) }) {
		return fmt.Errorf("environment variable %s would change what is run", name)
	}
	if strings.ContainsAny(value, "\x00\n\r") {
		return fmt.Errorf("value of environment variable %s has a line end or a NUL in it", name)
	}
	return nil
}
