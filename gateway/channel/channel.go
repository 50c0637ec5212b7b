// Package channel says what a messaging channel is to the gateway: a grammar
// that reads words into an Operation, a writer that makes one command from an
// Operation, a filter for what comes back, and a renderer that shows what was
// judged. The channels themselves are the packages below this one; package
// channel/all lists them.
//
// It promises that Classify(Command(op)) is op again for every operation of
// the channel: what was judged is what is run.
//
// It refuses I/O: a Channel is pure. Whatever it must know from its tool it
// asks for with Lookup, and the daemon runs that.
package channel

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Call is what a client said, before anybody believed it: one run of the tool
// (Argv), or one request of ours (Method and Params), never both.
type Call struct {
	Argv   []string // argv[0] is the tool's name; nil when Method is set
	Stdin  []byte
	Method string // "send", "history", "peers": the part of a wire method after "channel."
	Params json.RawMessage
	// Files are the transferred files of this client, by handle. An argument
	// that names a file must name one of these: no path of a client's is ever
	// opened.
	Files map[string]policy.File
}

// Request is one request to a resident tool.
type Request struct {
	Method string
	Params any // marshalled with encoding/json
}

// Command is what to run. Either Request (a resident tool is asked) or Path
// and Argv (a tool is run once) is set.
type Command struct {
	Request *Request
	Path    string   // absolute; empty means the channel's configured tool
	Argv    []string // argv[0] included; nothing private may stand here: every user can read it
	Stdin   []byte
	// Ready is asked once, at the last moment before the tool sees anything of
	// the command; with an error it never does, and Run returns that error
	// and ErrNotStarted. A command can wait for its tool for as long as a
	// request may take, and a person who locks the gateway means those too.
	// Set by the daemon; nil: nothing is asked.
	Ready func() error
}

// Reply is what a tool answered. Data is the result of a resident request
// (JSON) or the standard output of one run.
type Reply struct {
	Exit   int
	Data   []byte
	Stderr []byte
}

// Result is what Render may show: operations that were judged and passed, or
// an error. Nothing in it comes to the client unjudged.
type Result struct {
	Reply Reply              // the raw answer; only for a channel to take single, checked facts from (an id)
	Shown []policy.Operation // what came back, judged one by one
	Err   *Refusal           // set when the operation did not happen
}

// Refusal is what a client may be told when nothing happened.
type Refusal struct {
	Code       int    // wire error code (interface §5)
	Reason     string // "recipient not on the list"
	ID         string // dead letter, if there is one
	Hint       string
	RetryAfter int64 // milliseconds; rate limits only
}

// Output is what a shim prints and how it ends, or (for a Call with a Method)
// the result as JSON.
type Output struct {
	Stdout []byte
	Stderr []byte
	Exit   int
	Result any
}

// Channel is one messaging channel. All methods are pure and safe for
// concurrent use.
type Channel interface {
	// Name is the channel's name in the configuration: "imessage".
	Name() string
	// Tool is the name of the tool and of the shim: "imsg". Empty: none.
	Tool() string
	// Classify reads a call. An error denies; a *UsageError is the real
	// tool's own complaint about its arguments and is printed as the tool
	// would print it.
	Classify(Call) (policy.Operation, error)
	// Command writes what to run from a judged operation and from nothing
	// else.
	Command(policy.Operation) (Command, error)
	// Inbound reads what a tool answered to op (or what came in unasked) into
	// operations of VerbReceive, to be judged one by one. What it cannot read
	// it leaves out; the count of those is returned.
	Inbound(op policy.Operation, data []byte) (items []policy.Operation, dropped int, err error)
	// Render writes what the client sees.
	Render(Call, policy.Operation, Result) Output
}

// Resolver is a channel some of whose operations name a peer by a word that
// only the tool can translate, such as imsg's chat_id. Lookup returns what to
// ask, and false when there is nothing to ask; Resolve returns the operation
// with the peer filled in. Neither question nor answer is shown to a client.
type Resolver interface {
	Lookup(policy.Operation) (Command, bool)
	Resolve(policy.Operation, Reply) (policy.Operation, error)
}

// Helper is a channel that answers some calls by itself, without the tool and
// without touching anybody's data: --version, --help.
type Helper interface {
	// Local returns the answer, and false when the call is not such a one.
	Local(Call) (Output, bool)
}

// UsageError is the real tool's complaint about its arguments, word for word
// as the tool prints it.
type UsageError struct {
	Output Output
	Text   string
}

func (e *UsageError) Error() string { return e.Text }

// NotPermittedError says that a command, flag, method or parameter is not one
// that the channel serves. The daemon answers it with -32007.
type NotPermittedError struct {
	What string // "command react", "option --db"
	Hint string // what to do in its place, if there is something
}

func (e *NotPermittedError) Error() string { return e.What + " is not permitted" }

// ToolError is the tool's own failure, in words that may be shown to a client.
type ToolError struct {
	Code int
	Text string
}

func (e *ToolError) Error() string { return fmt.Sprintf("the tool failed: %s", e.Text) }

// State is what an adapter is doing, as `status` shows it (interface §9).
type State string

// The states of interface §9.
const (
	StateReady    State = "ready"
	StateStarting State = "starting"
	StateBackoff  State = "backoff"
	StateWaiting  State = "waiting"
	StateDown     State = "down"
	StateDisabled State = "disabled"
)

// Status is one channel's state at one moment.
type Status struct {
	State     State  `json:"state"`
	PID       int    `json:"pid,omitempty"`
	Restarts  int    `json:"restarts"`
	LastError string `json:"last_error,omitempty"`
}

// Runner runs commands of one channel: a child process, a resident child, or
// the messenger inside the gateway.
//
// Run returns an error that wraps ErrNotStarted only when it is certain that
// the tool never saw the command; one that wraps ErrUnknown when it may have.
// A *ToolError is the tool's own answer. A send is never run twice.
type Runner interface {
	Run(context.Context, Command) (Reply, error)
	Status() Status
	Close() error
}

// Outcomes of a Run that somebody tests for.
var (
	ErrNotStarted = fmt.Errorf("the tool was not started")
	ErrUnknown    = fmt.Errorf("the outcome is unknown")
)
