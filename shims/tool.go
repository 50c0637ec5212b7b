package shims

// tool is what a shim must know of the tool it stands in for; the rest is the
// gateway's business.
type tool struct {
	name    string
	channel string // empty: not served by this version
	// fileOption is the option whose value names a local file. Empty: none.
	fileOption string
	// answers are words that, anywhere on the command line, make the tool
	// answer a question and do nothing else: then no file is opened.
	answers []string
	// notFound begins what the tool prints when the file is not there.
	notFound string
	// errorsOnStdout says where the tool's users look for errors.
	errorsOnStdout bool
}

// tools are the names under which the program may be called.
var tools = []tool{
	{
		name: "imsg", channel: "imessage",
		fileOption:     "--file",
		answers:        []string{"--help", "-h", "--version", "-V"},
		notFound:       "AppleScript failed: Attachment not found at ",
		errorsOnStdout: true,
	},
	{name: "signal-cli"},
	{name: "gog"},
	{name: "discord"},
	{name: "openclaw"},
}

func find(name string) (tool, bool) {
	for _, t := range tools {
		if t.name == name {
			return t, true
		}
	}
	return tool{}, false
}
