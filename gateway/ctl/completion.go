package ctl

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Completion is the command that writes a shell's completion of the table that
// others returns; help is added to it.
func Completion(others func() []Command) Command {
	return Command{
		Name: "completion", Args: "bash|zsh|fish",
		About: "a script that completes commands and flags in a shell",
		Setup: func(*flag.FlagSet) Action {
			return func(_ context.Context, e *Env, words []string) error {
				if len(words) == 1 {
					switch words[0] {
					case "bash":
						bashCompletion(e.out, others())
						return nil
					case "zsh":
						// zsh runs bash's completions when it is asked to.
						e.Print("#compdef carapacectl\nautoload -U +X bashcompinit && bashcompinit\n")
						bashCompletion(e.out, others())
						return nil
					case "fish":
						fishCompletion(e.out, others())
						return nil
					}
				}
				return Usagef("completion", "completion needs one of: bash, zsh, fish")
			}
		},
	}
}

// tree is what can follow what: the first words, the words below them, and the
// flags of each command.
func tree(table []Command) (first []string, second, flags map[string][]string) {
	second, flags = map[string][]string{}, map[string][]string{}
	for _, c := range table {
		head, tail, grouped := strings.Cut(c.Name, " ")
		if !slices.Contains(first, head) {
			first = append(first, head)
		}
		if grouped {
			second[head] = append(second[head], tail)
		}
		c.eachFlag(func(name string, _ *flag.Flag) { flags[c.Name] = append(flags[c.Name], name) })
	}
	second["completion"] = []string{"bash", "zsh", "fish"}
	return append(first, "help"), second, flags
}

func bashCompletion(w io.Writer, table []Command) {
	first, second, flags := tree(table)
	io.WriteString(w, `_carapacectl() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
`)
	fmt.Fprintf(w, "    words=%q\n  else\n    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n", strings.Join(append(first, "--version"), " "))
	for _, c := range table {
		if strings.Contains(c.Name, " ") {
			fmt.Fprintf(w, "      %q) words=%q ;;\n", c.Name, strings.Join(flags[c.Name], " "))
		}
	}
	for _, head := range first {
		words := flags[head]
		if len(second[head]) > 0 {
			words = second[head]
		}
		fmt.Fprintf(w, "      %q*) words=%q ;;\n", head+" ", strings.Join(words, " "))
	}
	io.WriteString(w, `    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _carapacectl carapacectl
`)
}

func fishCompletion(w io.Writer, table []Command) {
	first, second, flags := tree(table)
	about := map[string]string{"help": "how to use a command"}
	for _, c := range table {
		about[c.Name] = c.About
	}
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	io.WriteString(w, "complete -c carapacectl -f\n")
	for _, head := range first {
		fmt.Fprintf(w, "complete -c carapacectl -n __fish_use_subcommand -a %s -d %s\n", head, quote(about[head]))
		for _, tail := range second[head] {
			fmt.Fprintf(w, "complete -c carapacectl -n '__fish_seen_subcommand_from %s' -a %s -d %s\n", head, tail, quote(about[head+" "+tail]))
		}
	}
	for _, c := range table {
		var seen []string
		for word := range strings.FieldsSeq(c.Name) {
			seen = append(seen, "__fish_seen_subcommand_from "+word)
		}
		for _, f := range flags[c.Name] {
			option := "-l " + strings.TrimLeft(f, "-")
			if !strings.HasPrefix(f, "--") {
				option = "-s " + strings.TrimLeft(f, "-")
			}
			fmt.Fprintf(w, "complete -c carapacectl -n '%s' %s\n", strings.Join(seen, "; and "), option)
		}
	}
}
