package probe

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// Subcommand is the word after which carapace-setup hands its arguments to
// Child.
const Subcommand = "__probe"

// protocol is raised when a request means something else than before: during
// an upgrade the old program may be asked by the new one.
const protocol = 1

// maxRequest and maxAnswer bound in bytes what goes over the pipes.
const (
	maxRequest = 8 << 20
	maxAnswer  = 8 << 20
)

// What a child can be asked to do. Each is one attempt; none leaves a trace.
const (
	doLstat   = "lstat"   // say what is there
	doOpen    = "open"    // open a file for reading
	doList    = "list"    // open a folder and read a name
	doWrite   = "write"   // open a file for writing, and close it
	doCreate  = "create"  // make a file in a folder, and remove it
	doRemove  = "remove"  // rmdir(2) of a file: the permission is looked at before the kind
	doConnect = "connect" // connect to a socket, and close it
	doSignal  = "signal"  // signal 0
	doTrace   = "trace"   // attach as a debugger, and let go
	doMemory  = "memory"  // open a file of /proc/PID that shows the inside of a process
	doFds     = "fds"     // list a folder of /proc/PID
	doRun     = "run"     // run a program and say how it ended
	doPing    = "ping"    // ask the gateway, as a client
	doSend    = "send"    // send a message, as a client
)

// op is one attempt.
type op struct {
	Do   string   `json:"do"`
	Path string   `json:"path,omitempty"`
	PID  int      `json:"pid,omitempty"`
	Args []string `json:"args,omitempty"` // doRun: the program and its arguments; doSend: recipient and text
	UID  uint32   `json:"uid,omitempty"`  // doPing, doSend: of the server
}

// result is what came of it. The zero result is a success with nothing to say.
type result struct {
	Errno string `json:"errno,omitempty"` // "EACCES"; "?" for an error that is none of the kernel's
	Text  string `json:"text,omitempty"`  // in words, or what a program said; foreign
	Code  int    `json:"code,omitempty"`  // of a program, or of an error of the gateway
	ID    string `json:"id,omitempty"`    // of a dead letter; foreign
	Stat  *stat  `json:"stat,omitempty"`
	UID   uint32 `json:"uid,omitempty"` // of the server, from the kernel
	Said  uint32 `json:"said,omitempty"`
}

// stat is what doLstat saw.
type stat struct {
	Mode uint32 `json:"mode"` // as in st_mode, kind and permissions
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
}

type request struct {
	Protocol int    `json:"protocol"`
	Control  string `json:"control"` // folder that the child's user owns, for the controls
	Program  string `json:"program"` // this program, for the control process
	Ops      []op   `json:"ops"`
}

// answer is one result for each op, in their order, and one control for each
// kind of attempt among them.
type answer struct {
	Protocol int               `json:"protocol"`
	PID      int               `json:"pid"`
	UID      uint32            `json:"uid"`
	GID      uint32            `json:"gid"`
	Groups   []int             `json:"groups"`
	Results  []result          `json:"results"`
	Controls map[string]result `json:"controls"`
}

// Child is the whole life of a probe child: it reads one request from stdin,
// tries what it says as the user it runs as, and writes one answer to stdout.
// args is what followed Subcommand on the command line. It returns an exit
// code; the answer counts only with 0.
//
// It can be asked for nothing that its user could not do without it, and
// refuses to try anything as root, where an attempt would succeed and mean
// something: root must say whom it is to become first.
func Child(args []string, stdin io.Reader, stdout io.Writer) int {
	if len(args) == 4 && args[0] == "as" && os.Geteuid() == 0 {
		if err := drop(args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "carapace-setup: become the user of the probe: %v\n", err)
			return wire.ExitFailed
		}
		args = nil
	}
	if os.Getuid() == 0 || os.Geteuid() == 0 || os.Getgid() == 0 || os.Getegid() == 0 {
		fmt.Fprintln(os.Stderr, "carapace-setup: a probe does not run as root")
		return wire.ExitNotPermitted
	}
	switch {
	case slices.Equal(args, []string{"stand"}):
		// The object of the controls of doSignal, doTrace and doMemory: a process
		// of the same user, that lives until its standard input ends.
		fmt.Fprintln(stdout, "standing")
		io.Copy(io.Discard, stdin)
		return wire.ExitOK
	case slices.Equal(args, []string{"true"}): // the object of the control of doRun
		return wire.ExitOK
	case len(args) != 0:
		fmt.Fprintln(os.Stderr, "carapace-setup: this command is for carapace-setup itself")
		return wire.ExitUsage
	}
	// From here on other programs of the same user cannot trace us, read our
	// memory or change our answer.
	if err := hide(); err != nil {
		fmt.Fprintf(os.Stderr, "carapace-setup: hide the probe: %v\n", err)
		return wire.ExitFailed
	}
	unix.Umask(0o077)
	req, err := readRequest(stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "carapace-setup: this probe was asked in a language that it does not speak")
		return wire.ExitUsage
	}
	groups, err := os.Getgroups()
	if err != nil {
		fmt.Fprintf(os.Stderr, "carapace-setup: groups of the probe: %v\n", err)
		return wire.ExitFailed
	}
	ans := answer{Protocol: protocol, PID: os.Getpid(), UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Groups: groups}
	for _, o := range req.Ops {
		ans.Results = append(ans.Results, try(o))
	}
	ans.Controls = controls(req)
	if err := json.NewEncoder(stdout).Encode(ans); err != nil {
		return wire.ExitFailed
	}
	return wire.ExitOK
}

func readRequest(r io.Reader) (request, error) {
	var req request
	d := json.NewDecoder(io.LimitReader(r, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return request{}, err
	}
	if req.Protocol != protocol {
		return request{}, fmt.Errorf("protocol %d, not %d", req.Protocol, protocol)
	}
	return req, nil
}

// try makes one attempt.
func try(o op) result {
	switch o.Do {
	case doLstat:
		return tryLstat(o.Path)
	case doOpen, doMemory:
		return tryOpen(o.Path, unix.O_RDONLY)
	case doList, doFds:
		return tryList(o.Path)
	case doWrite:
		return tryOpen(o.Path, unix.O_WRONLY)
	case doCreate:
		return tryCreate(o.Path)
	case doRemove:
		return tryRemove(o.Path)
	case doConnect:
		return tryConnect(o.Path)
	case doSignal:
		return trySignal(o.PID)
	case doTrace:
		return tryTrace(o.PID)
	case doRun:
		return tryRun(o.Args)
	case doPing:
		return tryPing(o)
	case doSend:
		return trySend(o)
	}
	return result{Errno: "?", Text: "no such attempt: " + o.Do}
}
