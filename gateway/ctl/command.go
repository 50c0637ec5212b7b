package ctl

import (
	"context"
	"flag"
	"fmt"
	"strings"
)

// Command is one row of a command table.
type Command struct {
	Name  string // "queue show"
	Args  string // what follows the name in the synopsis
	About string // one line
	More  string // for help of the command alone
	// Setup defines the flags and returns what the command does with the
	// arguments that are left.
	Setup func(*flag.FlagSet) Action
}

// Action is what a command does.
type Action func(ctx context.Context, e *Env, words []string) error

// JSONFlag defines the flag that every reading command has.
func JSONFlag(fs *flag.FlagSet) *bool { return fs.Bool("json", false, "print JSON") }

// find takes the command that the words begin with. A group whose first
// command is a list shows it when nothing follows.
func find(table []Command, words []string) (Command, []string, error) {
	group := false
	for _, c := range table {
		parts := strings.Fields(c.Name)
		if len(words) >= len(parts) && strings.Join(words[:len(parts)], " ") == c.Name {
			return c, words[len(parts):], nil
		}
		group = group || parts[0] == words[0]
	}
	if !group {
		return Command{}, nil, Usagef("", "unknown command %s", Quoted(words[0]))
	}
	names := below(table, words[0])
	if names[0] == "list" && (len(words) == 1 || strings.HasPrefix(words[1], "-")) {
		return find(table, append([]string{words[0], "list"}, words[1:]...))
	}
	return Command{}, nil, Usagef("", "%s needs one of: %s", words[0], strings.Join(names, ", "))
}

// below lists the second words of a group.
func below(table []Command, group string) []string {
	var names []string
	for _, c := range table {
		if rest, ok := strings.CutPrefix(c.Name, group+" "); ok {
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

// Usagef is the error of a wrong command line of a command (empty: of none).
func Usagef(command, format string, args ...any) error {
	return &usageError{command, fmt.Sprintf(format, args...)}
}

// NoArguments is the error of a command that takes no words.
func NoArguments(command string, words []string) error {
	if len(words) > 0 {
		return Usagef(command, "%s takes no argument %s", command, Quoted(words[0]))
	}
	return nil
}
