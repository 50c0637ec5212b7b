package imsg

import (
	"slices"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

// local answers what needs no tool. The tool looks for these words anywhere on
// the command line, even where a value should stand: `--text -h` is a question
// for help and sends nothing.
func local(argv []string) (channel.Output, bool) {
	if slices.Contains(argv, "--version") || slices.Contains(argv, "-V") {
		return channel.Output{Stdout: []byte(version + "\n")}, true
	}
	if len(argv) > 1 && !slices.Contains(argv, "--help") && !slices.Contains(argv, "-h") {
		return channel.Output{}, false
	}
	for _, word := range argv[min(1, len(argv)):] {
		if word == "--help" || word == "-h" {
			continue
		}
		if c, ok := find(word); ok && !c.newer {
			return channel.Output{Stdout: commandHelp(c)}, true
		}
		break
	}
	return channel.Output{Stdout: rootHelp()}, true
}

// rootHelp is what `imsg` alone prints. The first lines are the tool's; the
// rest says what is behind this door.
func rootHelp() []byte {
	var b strings.Builder
	b.WriteString(program + " " + version + "\nSend and read iMessage / SMS from the terminal\n" +
		"\nUsage:\n  imsg <command> [options]\n\nCommands:\n")
	for _, c := range commands() {
		if c.classify != nil {
			b.WriteString("  " + c.name + "\t" + c.about + "\n")
		}
	}
	b.WriteString("\nMessages go through Carapace: the owner of the account decides whom they may reach.\n" +
		"Other commands of imsg are known here and refused.\n" +
		"\nRun 'imsg <command> --help' for details.\n")
	return []byte(b.String())
}

func commandHelp(c command) []byte {
	var b strings.Builder
	b.WriteString(program + " " + c.name + "\n")
	if c.about != "" {
		b.WriteString(c.about + "\n")
	}
	b.WriteString("\nUsage:\n  imsg " + c.name + " [options]\n\n")
	if c.classify == nil {
		b.WriteString("This command is refused: the owner of the account has not opened it to you.\n")
		return []byte(b.String())
	}
	b.WriteString("Options:\n")
	for _, line := range c.usage {
		b.WriteString("  " + line + "\n")
	}
	b.WriteString("  -j, --json\tone JSON object a line\n  -v, --verbose\taccepted\n  --db PATH\taccepted and ignored: the database is the owner's\n")
	return []byte(b.String())
}
