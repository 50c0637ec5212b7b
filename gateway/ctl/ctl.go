// Package ctl is the frame of carapacectl: a command table, flags wherever they
// stand, help made from the table, and how results, refusals and mistakes are
// printed (interface §1).
//
// It is a package because carapacectl is two programs that must look like one.
// What asks the gateway starts for every ping and links only the wire. What
// reads a configuration or an audit log by itself links the tables of the
// world's phone numbers and a database, which takes ten times as long to start;
// that half is package ctl/offline, in the daemon's executable, which links all
// of it anyway. Commands that both halves must know are defined here.
//
// It promises that nothing foreign reaches a terminal raw, and that a message
// is one line: a foreign line end cannot forge a second one.
package ctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// Program is the name that messages begin with.
const Program = "carapacectl"

// Env is what a command may touch of the world.
type Env struct {
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	UID    int // effective

	out *bufio.Writer // of Stdout; flushed when the command ends
}

// Run carries out one command line and returns the exit code.
func Run(ctx context.Context, e *Env, table []Command) int {
	e.out = bufio.NewWriter(e.Stdout)
	err := e.dispatch(ctx, table)
	if flush := e.Flush(); err == nil {
		err = flush
	}
	return e.report(ctx, err)
}

func (e *Env) dispatch(ctx context.Context, table []Command) error {
	if len(e.Args) == 0 {
		return Usagef("", "a command is missing")
	}
	switch e.Args[0] {
	case "--version", "-version", "version":
		e.Printf("%s %s\n", Program, wire.Version)
		return nil
	case "--help", "-help", "-h":
		overview(e.out, table)
		return nil
	case "help":
		return e.help(table, e.Args[1:])
	}
	c, rest, err := find(table, e.Args)
	if err != nil {
		return err
	}
	fs := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	do := c.Setup(fs)
	words, err := parse(fs, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help(e.out)
		return nil
	case err != nil:
		return Usagef(c.Name, "%s", err)
	}
	return do(ctx, e, words)
}

// Failure is an end with an exit code of its own. A Failure without lines has
// said everything already.
type Failure struct {
	Code  int
	Lines []string
	Hint  string
}

func (f *Failure) Error() string { return strings.Join(f.Lines, "; ") }

// report says on stderr what went wrong, and returns the exit code.
func (e *Env) report(ctx context.Context, err error) int {
	if err == nil {
		return wire.ExitOK
	}
	if u, ok := errors.AsType[*usageError](err); ok {
		e.sayLines([]string{u.text}, strings.TrimSpace(Program+" help "+u.command))
		return wire.ExitUsage
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		e.sayLines(f.Lines, f.Hint)
		return f.Code
	}
	if w, ok := errors.AsType[*wire.Error](err); ok {
		e.refused(w)
		return w.Exit()
	}
	if u, ok := errors.AsType[*wire.UnreachableError](err); ok {
		e.sayLines([]string{u.Error()}, u.Hint())
		return u.Exit()
	}
	if ctx.Err() != nil {
		e.Say("interrupted")
		return wire.ExitFailed
	}
	e.Say(err.Error())
	return wire.ExitFailed
}

// Say prints one message on stderr.
func (e *Env) Say(text string) { e.sayLines([]string{text}, "") }

// sayLines prints messages, and what a person can do about them.
func (e *Env) sayLines(lines []string, hint string) {
	for _, line := range lines {
		fmt.Fprintf(e.Stderr, "%s: %s\n", Program, wire.Escape(line))
	}
	if hint != "" {
		fmt.Fprintf(e.Stderr, "%s: hint: %s\n", Program, wire.Escape(hint))
	}
}

// refused prints an error of the gateway's: what was decided in the form of
// interface §9, what went wrong as it is.
func (e *Env) refused(w *wire.Error) {
	var data wire.ErrorData
	if w.Data != nil {
		data = *w.Data
	}
	what := w.Message
	switch w.Code {
	case wire.CodeHeld:
		what = fmt.Sprintf("held for review (%s): %s", data.ID, w.Message)
	case wire.CodeUnavailable:
		what = "unavailable: " + w.Message
	case wire.CodeTool:
		what = "the tool failed: " + w.Message
	case wire.CodeDenied, wire.CodeRate, wire.CodeContent, wire.CodeCommand, wire.CodeLocked:
		what = "refused: " + w.Message
	}
	if w.Code == wire.CodeRate && data.Hint == "" && data.RetryAfterMS > 0 {
		data.Hint = fmt.Sprintf("try again in %.1f s", float64(data.RetryAfterMS+99)/1000)
	}
	e.sayLines([]string{what}, data.Hint)
}

// Flush writes what was printed so far.
func (e *Env) Flush() error {
	if err := e.out.Flush(); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// JSON prints a value as one line of JSON.
func (e *Env) JSON(v any) error {
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

// Printf prints for a person. Every string among the arguments is escaped.
func (e *Env) Printf(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = wire.Escape(s)
		}
	}
	fmt.Fprintf(e.out, format, args...)
}

// Print prints a text of our own, with its line ends.
func (e *Env) Print(text string) { e.out.WriteString(text) }

// Table prints rows in columns.
func (e *Env) Table(rows [][]string) {
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = wire.Escape(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}

// NeedsOwner is the end of a command that is not for this user. Its hint
// repeats the command line as far as that is safe to copy into a shell.
func (e *Env) NeedsOwner() error {
	line := []string{"sudo", "-k", Program}
	for _, w := range e.Args {
		if !plain(w) {
			line = append(line, "…")
			break
		}
		line = append(line, w)
	}
	return &Failure{wire.ExitNotPermitted, []string{"this is for root and the service user"}, "run: " + strings.Join(line, " ")}
}

// plain reports whether a word means itself in every shell.
func plain(word string) bool {
	for _, r := range word {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_./:@+,=-", r) {
			return false
		}
	}
	return word != ""
}

// Quoted is a foreign word in a message.
func Quoted(s string) string { return `"` + wire.Escape(s) + `"` }

// People names the entries of a list. A star is how the gateway says that it is
// not a list of people.
func People(list []string) string {
	switch {
	case len(list) == 0:
		return "nobody"
	case len(list) == 1 && list[0] == "*":
		return "anybody"
	}
	return strings.Join(list, ", ")
}
