package main

import (
	"fmt"
	"strings"
)

// completion prints a script that completes commands and flags, written from
// the command table.
func (a *app) completion(_ *options, args []string) error {
	if len(args) != 1 {
		return usagef("want one of bash, zsh, fish")
	}
	var words []string
	for _, c := range commands() {
		words = append(words, c.name)
	}
	flags := func(c command) string {
		var fs []string
		for _, f := range c.flags {
			fs = append(fs, "--"+f)
		}
		return strings.Join(fs, " ")
	}
	switch args[0] {
	case "bash", "zsh":
		if args[0] == "zsh" {
			fmt.Fprintln(a.stdout, "autoload -U +X bashcompinit && bashcompinit")
		}
		fmt.Fprintf(a.stdout, "_carapace_setup() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} words\n\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n\t\twords='%s'\n\telse\n\t\tcase ${COMP_WORDS[1]} in\n", strings.Join(words, " "))
		for _, c := range commands() {
			fmt.Fprintf(a.stdout, "\t\t%s) words='%s' ;;\n", c.name, flags(c))
		}
		fmt.Fprint(a.stdout, "\t\tesac\n\tfi\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o default -F _carapace_setup carapace-setup\n")
	case "fish":
		fmt.Fprintf(a.stdout, "complete -c %s -n __fish_use_subcommand -f -a '%s'\n", name, strings.Join(words, " "))
		for _, c := range commands() {
			for _, f := range c.flags {
				fmt.Fprintf(a.stdout, "complete -c %s -n '__fish_seen_subcommand_from %s' -l %s\n", name, c.name, f)
			}
		}
	default:
		return usagef("completion %q: want one of bash, zsh, fish", args[0])
	}
	return nil
}
