package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

func completionCommand() command {
	return command{
		name: "completion", args: "bash|zsh|fish",
		about: "a script that completes commands and flags in a shell",
		setup: func(*flag.FlagSet) func(context.Context, *env, []string) error {
			return func(_ context.Context, e *env, words []string) error {
				if len(words) == 1 {
					switch words[0] {
					case "bash":
						bashCompletion(e.out)
						return nil
					case "zsh":
						// zsh runs bash's completions when it is asked to.
						io.WriteString(e.out, "#compdef carapacectl\nautoload -U +X bashcompinit && bashcompinit\n")
						bashCompletion(e.out)
						return nil
					case "fish":
						fishCompletion(e.out)
						return nil
					}
				}
				return usagef("completion", "completion needs one of: bash, zsh, fish")
			}
		},
	}
}

// tree is what can follow what: the first words, the words below them, and the
// flags of each command.
func tree() (first []string, second map[string][]string, flags map[string][]string) {
	second, flags = map[string][]string{}, map[string][]string{}
	for _, c := range commands() {
		head, tail, grouped := strings.Cut(c.name, " ")
		if !slices.Contains(first, head) {
			first = append(first, head)
		}
		if grouped {
			second[head] = append(second[head], tail)
		}
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.setup(fs)
		fs.VisitAll(func(f *flag.Flag) {
			dashes := "--"
			if len(f.Name) == 1 {
				dashes = "-"
			}
			flags[c.name] = append(flags[c.name], dashes+f.Name)
		})
	}
	second["completion"] = []string{"bash", "zsh", "fish"}
	return first, second, flags
}

func bashCompletion(w io.Writer) {
	first, second, flags := tree()
	io.WriteString(w, `_carapacectl() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
`)
	fmt.Fprintf(w, "    words=%q\n  else\n    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n", strings.Join(append(first, "--version"), " "))
	for _, c := range commands() {
		if strings.Contains(c.name, " ") {
			fmt.Fprintf(w, "      %q) words=%q ;;\n", c.name, strings.Join(flags[c.name], " "))
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

func fishCompletion(w io.Writer) {
	first, second, flags := tree()
	about := map[string]string{}
	for _, c := range commands() {
		about[c.name] = c.about
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
	for _, c := range commands() {
		var seen []string
		for word := range strings.FieldsSeq(c.name) {
			seen = append(seen, "__fish_seen_subcommand_from "+word)
		}
		for _, f := range flags[c.name] {
			option := "-l " + strings.TrimLeft(f, "-")
			if !strings.HasPrefix(f, "--") {
				option = "-s " + strings.TrimLeft(f, "-")
			}
			fmt.Fprintf(w, "complete -c carapacectl -n '%s' %s\n", strings.Join(seen, "; and "), option)
		}
	}
}
