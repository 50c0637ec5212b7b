package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// program is the name that messages begin with.
const program = "carapacectl"

// env is what a command may touch of the world.
type env struct {
	args   []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	uid    int // effective

	discover      func() (wire.ClientOptions, error)
	discoverAdmin func() (wire.ClientOptions, error)

	out *bufio.Writer // of stdout; flushed when the command ends
}

// command is one row of the command table.
type command struct {
	name  string // "queue show"
	args  string // what follows the name in the synopsis
	about string // one line
	more  string // for help of the command alone
	// setup defines the flags and returns what the command does with the
	// arguments that are left.
	setup func(*flag.FlagSet) func(context.Context, *env, []string) error
}

// commands is the table, in the order in which help shows it.
func commands() []command {
	return []command{
		pingCommand(),
		sendCommand(),
		statusCommand(),
		channelsCommand(),
		queueListCommand(),
		queueShowCommand(),
		queuePurgeCommand(),
		auditTailCommand(),
		auditShowCommand(),
		auditVerifyCommand(),
		policyCheckCommand(),
		policyExplainCommand(),
		reloadCommand(),
		lockCommand(),
		unlockCommand(),
		completionCommand(),
		helpCommand(),
	}
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, e *env) int {
	e.out = bufio.NewWriter(e.stdout)
	err := e.dispatch(ctx)
	if flush := e.out.Flush(); err == nil && flush != nil {
		err = fmt.Errorf("write the output: %w", flush)
	}
	return e.report(ctx, err)
}

func (e *env) dispatch(ctx context.Context) error {
	if len(e.args) == 0 {
		return usagef("", "a command is missing")
	}
	switch e.args[0] {
	case "--version", "-version", "version":
		fmt.Fprintln(e.out, program, wire.Version)
		return nil
	case "--help", "-help", "-h":
		e.overview(e.out)
		return nil
	}
	c, rest, err := find(e.args)
	if err != nil {
		return err
	}
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	do := c.setup(fs)
	words, err := parse(fs, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help(e.out)
		return nil
	case err != nil:
		return usagef(c.name, "%s", err)
	}
	return do(ctx, e, words)
}

// find takes the longest command that the words begin with.
func find(words []string) (command, []string, error) {
	table := commands()
	group := false
	for _, c := range table {
		parts := strings.Fields(c.name)
		if len(words) >= len(parts) && strings.Join(words[:len(parts)], " ") == c.name {
			return c, words[len(parts):], nil
		}
		group = group || parts[0] == words[0]
	}
	if words[0] == "queue" && (len(words) == 1 || strings.HasPrefix(words[1], "-")) {
		return find(append([]string{"queue", "list"}, words[1:]...))
	}
	if group {
		return command{}, nil, usagef("", "%s needs one of: %s", words[0], strings.Join(below(table, words[0]), ", "))
	}
	return command{}, nil, usagef("", "unknown command %s", quoted(words[0]))
}

func below(table []command, group string) []string {
	var names []string
	for _, c := range table {
		if rest, ok := strings.CutPrefix(c.name, group+" "); ok {
			names = append(names, rest)
		}
	}
	return names
}

// parse takes flags wherever they stand among the words; -- ends them.
func parse(fs *flag.FlagSet, args []string) ([]string, error) {
	var words []string
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		rest := fs.Args()
		if len(rest) == 0 {
			return words, nil
		}
		if took := len(args) - len(rest); took > 0 && args[took-1] == "--" {
			return append(words, rest...), nil
		}
		words = append(words, rest[0])
		args = rest[1:]
	}
}

// usageError is a wrong command line.
type usageError struct {
	command string
	text    string
}

func (u *usageError) Error() string { return u.text }

func usagef(command, format string, args ...any) error {
	return &usageError{command, fmt.Sprintf(format, args...)}
}

func noArguments(name string, words []string) error {
	if len(words) > 0 {
		return usagef(name, "%s takes no argument %s", name, quoted(words[0]))
	}
	return nil
}

// failure is any other end with an exit code of its own. A failure without
// lines has said everything already.
type failure struct {
	code  int
	lines []string
	hint  string
}

func (f *failure) Error() string { return strings.Join(f.lines, "; ") }

// report says on stderr what went wrong, and returns the exit code.
func (e *env) report(ctx context.Context, err error) int {
	if err == nil {
		return wire.ExitOK
	}
	if u, ok := errors.AsType[*usageError](err); ok {
		hint := program + " help"
		if u.command != "" {
			hint += " " + u.command
		}
		e.say(u.text, hint)
		return wire.ExitUsage
	}
	if f, ok := errors.AsType[*failure](err); ok {
		e.sayLines(f.lines, f.hint)
		return f.code
	}
	if w, ok := errors.AsType[*wire.Error](err); ok {
		e.refused(w)
		return w.Exit()
	}
	if u, ok := errors.AsType[*wire.UnreachableError](err); ok {
		e.say(u.Error(), u.Hint())
		return u.Exit()
	}
	if ctx.Err() != nil {
		e.say("interrupted", "")
		return wire.ExitFailed
	}
	e.sayLines(configLines(err), "")
	return wire.ExitFailed
}

// say prints one message in one line, and what a person can do about it.
func (e *env) say(text, hint string) { e.sayLines([]string{text}, hint) }

func (e *env) sayLines(lines []string, hint string) {
	for _, line := range lines {
		fmt.Fprintf(e.stderr, "%s: %s\n", program, wire.Escape(line))
	}
	if hint != "" {
		fmt.Fprintf(e.stderr, "%s: hint: %s\n", program, wire.Escape(hint))
	}
}

// refused prints an error of the gateway's: what was decided in the form of
// interface §9, what went wrong as it is.
func (e *env) refused(w *wire.Error) {
	var data wire.ErrorData
	if w.Data != nil {
		data = *w.Data
	}
	switch w.Code {
	case wire.CodeDenied, wire.CodeRate, wire.CodeContent, wire.CodeUnavailable, wire.CodeHeld, wire.CodeCommand, wire.CodeLocked:
		r := channel.Refusal{Code: w.Code, Reason: w.Message, ID: data.ID, Hint: data.Hint, RetryAfter: data.RetryAfterMS}
		what, hint := r.Lines(program)
		io.WriteString(e.stderr, what+hint)
	case wire.CodeTool:
		e.say("the tool failed: "+w.Message, data.Hint)
	default:
		e.say(w.Message, data.Hint)
	}
}

// ask calls one method on the client socket.
func (e *env) ask(ctx context.Context, method string, params, result any) error {
	o, err := e.discover()
	if err != nil {
		return err
	}
	return askAt(ctx, o, method, params, result)
}

// askAdmin calls one method on the admin socket.
func (e *env) askAdmin(ctx context.Context, method string, params, result any) error {
	c, err := e.dialAdmin(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, method, params, result)
}

func askAt(ctx context.Context, o wire.ClientOptions, method string, params, result any) error {
	c, err := wire.Dial(ctx, o)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, method, params, result)
}

func (e *env) dialAdmin(ctx context.Context) (*wire.Client, error) {
	o, owner, err := e.owner()
	if err != nil {
		return nil, err
	}
	if !owner {
		return nil, e.needsOwner()
	}
	return wire.Dial(ctx, o)
}

// owner says whether this is root or the service user, and where the admin
// socket is.
func (e *env) owner() (wire.ClientOptions, bool, error) {
	o, err := e.discoverAdmin()
	if err != nil {
		return o, e.uid == 0, err
	}
	return o, e.uid == 0 || e.uid == int(o.ServerUID), nil
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@+,=-]+$`)

// needsOwner repeats the command line in its hint, but only where that is safe
// to copy into a shell.
func (e *env) needsOwner() error {
	line := []string{"sudo", "-k", program}
	for _, w := range e.args {
		if !plainWord.MatchString(w) {
			line = append(line, "…")
			break
		}
		line = append(line, w)
	}
	return &failure{wire.ExitNotPermitted, []string{"this is for root and the service user"}, "run: " + strings.Join(line, " ")}
}

// json prints a value as one line of JSON.
func (e *env) json(v any) error {
	text, ok := v.(json.RawMessage)
	if !ok {
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return err
		}
		text = json.RawMessage(strings.TrimSuffix(b.String(), "\n"))
	}
	e.out.Write(wire.EscapeJSON(text))
	e.out.WriteByte('\n')
	return nil
}

// printf prints for a person. Every string among the arguments is escaped.
func (e *env) printf(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = wire.Escape(s)
		}
	}
	fmt.Fprintf(e.out, format, args...)
}

func quoted(s string) string { return `"` + wire.Escape(s) + `"` }

func jsonFlag(fs *flag.FlagSet) *bool { return fs.Bool("json", false, "print JSON") }
