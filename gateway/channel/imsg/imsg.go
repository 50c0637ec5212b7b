// Package imsg is the channel "imessage": the grammar of the tool imsg in its
// profile 0.9 ("P9" in the contract), the filters for what it answers, and the
// texts that its users expect.
//
// It reads a command line as imsg 0.9 reads it, down to the wording of its
// complaints, and serves `send`, `chats` and `history`; `--version` and the
// help texts are answered here. Every other command and option of the tool is
// known by name and refused. What runs is never the command line: a Command is
// one request to a resident `imsg rpc`, with exactly one recipient in its
// canonical form and every value in JSON, where none can be taken for an
// option.
//
// It promises that a recipient was resolved before it was judged: contact
// names, which imsg would look up in the owner's address book after our check,
// are refused, and a chat id is looked up first (channel.Resolver). It promises
// that nothing of what the tool answers is shown but what was read into an
// Operation: no account, no address book name, no quotation of another
// message, no path.
//
// It refuses --convert-attachments (a decoder of hostile media), a --file that
// was not transferred, and every identifier with a service prefix. It accepts
// --db where the tool has it, and ignores it: the database is the owner's
// choice.
package imsg

import (
	"fmt"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

const (
	name    = "imessage" // in the configuration
	program = "imsg"     // the tool, and how our own lines begin
	// version is what --version prints: the profile whose grammar this is,
	// whatever release stands behind it.
	version = "0.9.0"
)

// Channel is the grammar of imsg.
type Channel struct{ region string }

// New returns the channel. Region is how a phone number without + is read
// ("US"); empty: such a number is refused.
func New(region string) *Channel { return &Channel{region: region} }

var (
	_ channel.Channel  = (*Channel)(nil)
	_ channel.Resolver = (*Channel)(nil)
	_ channel.Helper   = (*Channel)(nil)
)

// Name implements channel.Channel.
func (*Channel) Name() string { return name }

// Tool implements channel.Channel.
func (*Channel) Tool() string { return program }

// Local implements channel.Helper: --version and help, which win over
// everything else on a command line of imsg 0.9.
func (*Channel) Local(call channel.Call) (channel.Output, bool) {
	if call.Method != "" {
		return channel.Output{}, false
	}
	return local(call.Argv)
}

// Classify implements channel.Channel.
func (c *Channel) Classify(call channel.Call) (policy.Operation, error) {
	if call.Method != "" {
		if len(call.Argv) > 0 {
			return policy.Operation{}, &channel.NotPermittedError{What: "a method with a command line"}
		}
		return c.classifyMethod(call)
	}
	if out, ok := local(call.Argv); ok {
		// Whoever did not ask Local before must still not run anything.
		return policy.Operation{}, &channel.UsageError{Output: out, Text: "help"}
	}
	spec, given, err := parse(call.Argv)
	if err != nil {
		return policy.Operation{}, err
	}
	if spec.classify == nil {
		return policy.Operation{}, &channel.NotPermittedError{What: "command " + spec.name, Hint: "this version of the gateway serves imsg send, chats and history"}
	}
	return spec.classify(c, given, call)
}

// Command implements channel.Channel.
func (*Channel) Command(op policy.Operation) (channel.Command, error) {
	if op.Channel == name {
		switch op.Verb {
		case policy.VerbSend:
			return commandSend(op)
		case policy.VerbRead:
			return commandHistory(op)
		case policy.VerbList:
			return commandChats(op)
		}
	}
	return channel.Command{}, errStrange
}

// errStrange is the answer to an operation that no Classify of ours makes.
var errStrange = &channel.NotPermittedError{What: "this operation on imessage"}

func request(method string, params any) channel.Command {
	return channel.Command{Request: &channel.Request{Method: method, Params: params}}
}

func operation(verb policy.Verb, command string) policy.Operation {
	op := policy.Operation{Channel: name, Verb: verb, Command: command, Default: true}
	if !verb.Effect() {
		op.Direction = policy.Inbound
	}
	return op
}

// usage is a complaint of the tool's, which it prints on standard output.
func usage(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return &channel.UsageError{
		Text:   text,
		Output: channel.Output{Stdout: []byte(channel.Escape(text) + "\n"), Exit: channel.ExitFailed},
	}
}
