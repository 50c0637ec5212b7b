package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
)

const overviewHead = `carapacectl: see and steer the Carapace gateway

usage: carapacectl COMMAND [ARGUMENTS]
       carapacectl help COMMAND
       carapacectl --version

commands:
`

const overviewTail = `
ping, send, status and channels are for clients; the rest is for root and the
service user: sudo -k carapacectl COMMAND.

exit codes: 0 done, 1 failed, 64 usage, 69 the gateway cannot be reached,
70 a bug in Carapace, 75 try later, 77 not permitted.
`

func (e *env) overview(w io.Writer) {
	io.WriteString(w, overviewHead)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-15s %s\n", c.name, c.about)
	}
	io.WriteString(w, overviewTail)
}

func (c command) help(w io.Writer) {
	fmt.Fprintf(w, "usage: %s\n\n%s\n", strings.TrimSpace(program+" "+c.name+" "+c.args), c.about)
	if c.more != "" {
		fmt.Fprintf(w, "\n%s\n", c.more)
	}
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	c.setup(fs)
	head := "\nflags:\n"
	fs.VisitAll(func(f *flag.Flag) {
		kind, about := flag.UnquoteUsage(f)
		dashes := "--"
		if len(f.Name) == 1 {
			dashes = "-"
		}
		fmt.Fprintf(w, "%s  %-18s %s\n", head, strings.TrimSpace(dashes+f.Name+" "+kind), about)
		head = ""
	})
}

func helpCommand() command {
	return command{
		name: "help", args: "[COMMAND]",
		about: "this, or one command's own help",
		setup: func(*flag.FlagSet) func(context.Context, *env, []string) error {
			return func(_ context.Context, e *env, words []string) error {
				if len(words) == 0 {
					e.overview(e.out)
					return nil
				}
				if names := below(commands(), words[0]); len(words) == 1 && len(names) > 0 {
					for i, name := range names {
						if i > 0 {
							fmt.Fprintln(e.out)
						}
						c, _, err := find([]string{words[0], name})
						if err != nil {
							return err
						}
						c.help(e.out)
					}
					return nil
				}
				c, rest, err := find(words)
				if err != nil {
					return err
				}
				if len(rest) > 0 {
					return usagef("", "unknown command %s", quoted(strings.Join(words, " ")))
				}
				c.help(e.out)
				return nil
			}
		},
	}
}
