package shims

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// Main is one run of a shim: the tool is the base name of argv[0]. It returns
// the exit code.
func Main(argv []string) int {
	name := ""
	if len(argv) > 0 {
		name = filepath.Base(argv[0])
		argv = argv[1:]
	}
	t, ok := find(name)
	switch {
	case !ok:
		return self(argv)
	case t.channel == "":
		complain(os.Stderr, name, "this version of Carapace does not serve "+name+" yet")
		hint(name, "carapacectl channels says what is served")
		return wire.ExitUnavailable
	}
	return t.run(argv)
}

// self answers for the program under its own name.
func self(args []string) int {
	const usage = "carapace-shim stands in for messaging tools: it is called by the name of one, such as imsg.\n"
	if len(args) == 1 {
		switch args[0] {
		case "--version":
			os.Stdout.WriteString("carapace-shim " + wire.Version + "\n")
			return wire.ExitOK
		case "--help":
			os.Stdout.WriteString(usage)
			return wire.ExitOK
		}
	}
	complain(os.Stderr, "carapace-shim", "call it by the name of a tool")
	hint("carapace-shim", "the links beside the program have those names: imsg")
	return wire.ExitUsage
}

// run is one call of a tool that is served.
func (t tool) run(args []string) int {
	// A local file is looked at before anything is asked: a tool that misses
	// its file does nothing either.
	file, args, err := t.open(args)
	if err != nil {
		os.Stdout.WriteString(wire.Escape(err.Error()) + "\n")
		return wire.ExitFailed
	}
	if file != nil {
		defer file.Close()
	}
	o, err := wire.Discover()
	if err != nil {
		return t.failed(err)
	}
	ctx := context.Background()
	c, err := wire.Dial(ctx, o)
	if err != nil {
		return t.failed(err)
	}
	// The connection is not closed: the end of the process does that, at once.
	if file != nil {
		handle, err := c.SendFile(ctx, file.name, file.size, file)
		if err != nil {
			return t.failed(err)
		}
		file.put(args, handle)
	}
	c.OnNotify(output)
	var result json.RawMessage
	if err := c.Call(ctx, "call", t.call(args), &result); err != nil {
		return t.failed(err)
	}
	code := -1
	_ = wire.Members(result, func(key string, value []byte) {
		if n, err := strconv.Atoi(string(value)); key == "exit" && err == nil {
			code = n
		}
	})
	if code < 0 || code > 255 {
		t.say("the gateway's answer names no exit code")
		return wire.ExitBug
	}
	return code
}

// call writes the parameters of the method of that name.
func (t tool) call(args []string) json.RawMessage {
	p := append([]byte(nil), `{"channel":`...)
	p = wire.AppendText(p, t.channel)
	p = append(p, `,"argv":[`...)
	p = wire.AppendText(p, t.name)
	for _, a := range args {
		p = append(p, ',')
		p = wire.AppendText(p, a)
	}
	return append(p, ']', '}')
}

// output writes what the tool printed, byte for byte. A reader that is gone
// ends the shim with SIGPIPE, as it would the tool; any other failure to
// write is passed over, as the tools do: what was done is done, and an exit
// code that says otherwise would have it done again.
func output(method string, params json.RawMessage) {
	if method != "output" {
		return
	}
	var stream, text string
	if wire.Members(params, func(key string, value []byte) {
		switch key {
		case "stream":
			stream, _ = wire.Text(value)
		case "data":
			text, _ = wire.Text(value)
		}
	}) != nil {
		return
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return
	}
	switch stream {
	case "stdout":
		_, _ = os.Stdout.Write(data)
	case "stderr":
		_, _ = os.Stderr.Write(data)
	}
}

// failed says why the gateway printed nothing, and returns the exit code.
func (t tool) failed(err error) int {
	var (
		refused *wire.Error
		away    *wire.UnreachableError
		advice  string
	)
	switch {
	case errors.As(err, &refused):
		t.say(refusal(refused))
		advice = refused.Hint()
	case errors.As(err, &away):
		t.say(unreachable(away))
		advice = away.Hint()
	default:
		t.say(err.Error())
	}
	hint(t.name, advice)
	return wire.ExitCode(err)
}

// refusal is the first line of interface §9.
func refusal(e *wire.Error) string {
	switch e.Code {
	case wire.CodeHeld:
		if e.Data != nil && e.Data.ID != "" {
			return "held for review (" + e.Data.ID + "): " + e.Message
		}
		return "held for review: " + e.Message
	case wire.CodeDenied, wire.CodeRate, wire.CodeContent, wire.CodeCommand, wire.CodeLocked:
		return "refused: " + e.Message
	}
	return e.Message
}

// unreachable says in one line that the gateway is away, and why where that is
// more than its absence.
func unreachable(e *wire.UnreachableError) string {
	const away = "gateway cannot be reached"
	switch {
	case errors.Is(e, wire.ErrClosed):
		return e.Err.Error() // after it was asked: it was reached
	case e.Exit() == wire.ExitNotPermitted:
		return away + ": permission denied"
	case errors.Is(e, wire.ErrWrongServer), errors.Is(e, wire.ErrSilent), errors.Is(e, wire.ErrNotInstalled):
		return away + ": " + e.Err.Error()
	}
	return away
}

// say prints one line where the tool prints its errors.
func (t tool) say(what string) {
	to := os.Stderr
	if t.errorsOnStdout {
		to = os.Stdout
	}
	complain(to, t.name, what)
}

func complain(to *os.File, name, what string) {
	to.WriteString(name + ": " + wire.Escape(what) + "\n")
}

func hint(name, what string) {
	if what != "" {
		os.Stderr.WriteString(name + ": hint: " + wire.Escape(what) + "\n")
	}
}
