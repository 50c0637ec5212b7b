package ctl

import (
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

func overview(w io.Writer, table []Command) {
	io.WriteString(w, overviewHead)
	for _, c := range table {
		fmt.Fprintf(w, "  %-15s %s\n", c.Name, c.About)
	}
	io.WriteString(w, overviewTail)
}

func (c Command) help(w io.Writer) {
	fmt.Fprintf(w, "usage: %s\n\n%s\n", strings.TrimSpace(Program+" "+c.Name+" "+c.Args), c.About)
	if c.More != "" {
		fmt.Fprintf(w, "\n%s\n", c.More)
	}
	head := "\nflags:\n"
	c.eachFlag(func(name string, f *flag.Flag) {
		kind, about := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "%s  %-18s %s\n", head, strings.TrimSpace(name+" "+kind), about)
		head = ""
	})
}

// eachFlag calls fn for every flag with its dashes.
func (c Command) eachFlag(fn func(name string, f *flag.Flag)) {
	fs := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	c.Setup(fs)
	fs.VisitAll(func(f *flag.Flag) {
		if len(f.Name) == 1 {
			fn("-"+f.Name, f)
		} else {
			fn("--"+f.Name, f)
		}
	})
}

// help shows the table, a group of it, or one command.
func (e *Env) help(table []Command, words []string) error {
	if len(words) == 0 {
		overview(e.out, table)
		return nil
	}
	if len(words) == 1 {
		names := below(table, words[0])
		for i, name := range names {
			if i > 0 {
				e.Print("\n")
			}
			c, _, err := find(table, []string{words[0], name})
			if err != nil {
				return err
			}
			c.help(e.out)
		}
		if len(names) > 0 {
			return nil
		}
	}
	c, rest, err := find(table, words)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return Usagef("", "unknown command %s", Quoted(strings.Join(words, " ")))
	}
	c.help(e.out)
	return nil
}
