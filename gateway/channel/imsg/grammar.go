package imsg

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// command is one command of imsg as the parser sees it (contracts/imsg.md §1
// and §3).
type command struct {
	name  string
	about string // first line of its help after the name
	// values are options that take one value; lists take every bare word up to
	// the next option; flags take none. Names without the leading hyphens; a
	// name of one letter is a short one.
	values, lists, flags []string
	bare                 bool // without --db
	raw                  bool // without -v, -j and --log-level, too
	newer                bool // not in 0.9: its grammar is not known here
	// refused are options that the tool has, now or in a later release, and
	// that are never served.
	refused []string
	// classify reads a command line of a command that is served.
	classify func(*Channel, options, channel.Call) (policy.Operation, error)
	usage    []string // help: lines of options
}

// options is a parsed command line: every value in the order given, and the
// empty list for a flag.
type options map[string][]string

// last returns the value that counts: imsg takes the last one given.
func (o options) last(name string) (string, bool) {
	v := o[name]
	if len(v) == 0 {
		return "", false
	}
	return v[len(v)-1], true
}

// text is last for options whose absence and emptiness mean the same.
func (o options) text(name string) string {
	v, _ := o.last(name)
	return v
}

// integer is an option that counts as absent when it is no integer.
func (o options) integer(name string) (int64, bool) {
	v, ok := o.last(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil
}

func (o options) has(name string) bool { return o[name] != nil }

// aliases are the second names of options.
var aliases = map[string]string{
	"v": "verbose", "j": "json", "json-output": "json", "jsonOutput": "json", "logLevel": "log-level",
}

// bridge builds the row of a command that works on one chat by its guid.
func bridge(name, about string, more ...string) command {
	return command{name: name, about: about, values: append([]string{"chat"}, more...)}
}

// commands lists every command that imsg has, served or not.
func commands() []command {
	target := []string{"to", "chat-id", "chat-identifier", "chat-guid"}
	return []command{
		{name: "chats", about: "List recent conversations", values: []string{"limit"}, refused: []string{"unread-only"},
			classify: (*Channel).classifyChats,
			usage:    []string{"--limit N\thow many, 20 unless said, 500 at most"}},
		{name: "group", about: "Show chat identity and participants for a chat id", values: []string{"chat-id"}},
		{name: "history", about: "Show recent messages for a chat", values: []string{"chat-id", "limit", "start", "end"},
			lists: []string{"participants"}, flags: []string{"attachments"}, refused: []string{"convert-attachments"},
			classify: (*Channel).classifyHistory,
			usage: []string{"--chat-id N\tthe chat, as `imsg chats` numbers it", "--limit N\thow many, 50 unless said, 500 at most",
				"--participants H...\tonly messages from these", "--start T\tfrom this time on (ISO 8601)", "--end T\tbefore this time",
				"--attachments\tname the attachments"}},
		{name: "watch", about: "Stream incoming messages", values: []string{"chat-id", "debounce", "since-rowid", "start", "end"},
			lists: []string{"participants"}, flags: []string{"attachments", "convert-attachments", "reactions", "bb-events"}},
		{name: "send", about: "Send a message (text and/or attachment)",
			values: append([]string{"text", "file", "service", "region"}, target...), refused: []string{"no-sms-fallback"},
			classify: (*Channel).classifySend,
			usage: []string{"--to R\tphone number or e-mail address", "--chat-id N\tthe chat, as `imsg chats` numbers it",
				"--chat-identifier I\tthe chat by its identifier", "--chat-guid G\tthe chat by its guid", "--text T\tthe message",
				"--file F\ta file to attach", "--service S\timessage, sms or auto", "--region C\tcountry of a number without +"}},
		{name: "react", about: "Send a tapback reaction to the most recent message", values: []string{"chat-id", "reaction", "r"}},
		{name: "read", about: "Mark messages as read for a chat", values: append([]string{"handle"}, target...)},
		{name: "typing", about: "Send typing indicator to a chat", values: append([]string{"duration", "stop", "service"}, target...)},
		{name: "launch", about: "Launch Messages.app with dylib injection", values: []string{"dylib"}, flags: []string{"kill-only"}, bare: true},
		{name: "status", about: "Check availability of imsg advanced features", bare: true},
		{name: "rpc", about: "Run JSON-RPC over stdin/stdout"},
		{name: "completions", about: "Generate shell completions or LLM context", bare: true, raw: true},
		bridge("send-rich", "Send a message via the IMCore bridge (effects, replies, subjects)",
			"text", "file", "effect", "subject", "reply-to", "part", "format", "format-file").
			flag("no-dd-scan").refuse("url", "schedule"),
		bridge("send-multipart", "Send a multi-part message", "parts", "parts-file", "effect", "subject"),
		bridge("send-attachment", "Send a file attachment via the IMCore bridge", "file", "reply-to", "transport").flag("audio"),
		bridge("tapback", "Send a tapback reaction via the IMCore bridge", "message", "kind", "part").flag("remove").refuse("emoji"),
		bridge("edit", "Edit a sent message", "message", "new-text", "bc-text", "part"),
		bridge("unsend", "Retract a sent message", "message", "part"),
		bridge("delete-message", "Delete a single message from a chat", "message"),
		bridge("notify-anyways", "Force a notification for a message that was filtered/suppressed", "message"),
		{name: "chat-create", about: "Create a new chat (1:1 or group)", values: []string{"addresses", "name", "text", "service"}},
		bridge("chat-name", "Set a chat's display name", "name"),
		bridge("chat-photo", "Set or clear a group chat photo", "file"),
		bridge("chat-add-member", "Add a participant to a group chat", "address"),
		bridge("chat-remove-member", "Remove a participant from a group chat", "address"),
		bridge("chat-leave", "Leave a group chat"),
		bridge("chat-delete", "Delete a chat from Messages.app"),
		bridge("chat-mark", "Mark a chat as read or unread").flag("read", "unread"),
		{name: "search", about: "Search local Messages history", values: []string{"query", "match", "limit"}},
		{name: "account", about: "Show the active iMessage account, login, and aliases", refused: []string{"local"}},
		{name: "whois", about: "Check whether a handle is reachable on iMessage", values: []string{"address", "type"}, refused: []string{"local"}},
		{name: "nickname", about: "Show contact-card / nickname info for a handle", values: []string{"address"}, refused: []string{"local"}},
		{name: "stats", newer: true},
		{name: "scheduled", newer: true},
		{name: "chat-background", newer: true},
		{name: "poll", newer: true},
		{name: "send-sticker", newer: true},
		{name: "name-photo", newer: true},
		{name: "contact-card", newer: true},
	}
}

func (c command) flag(names ...string) command   { c.flags = names; return c }
func (c command) refuse(names ...string) command { c.refused = names; return c }

func find(name string) (command, bool) {
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		return command{}, false
	}
	return all[i], true
}

// parse reads a command line that asks neither for help nor for the version.
func parse(argv []string) (command, options, error) {
	if len(argv) == 0 || slices.ContainsFunc(argv, func(a string) bool { return !utf8.ValidString(a) || strings.ContainsRune(a, 0) }) {
		return command{}, nil, &channel.NotPermittedError{What: "this command line"}
	}
	words := argv[1:]
	if strings.HasPrefix(words[0], "-") {
		e := usage("Command '%s' requires a subcommand", program).(*channel.UsageError)
		e.Output.Stdout = append(e.Output.Stdout, rootHelp()...)
		return command{}, nil, e
	}
	spec, ok := find(words[0])
	if !ok {
		return command{}, nil, usage("Unknown subcommand '%s' for command '%s'", words[0], program)
	}
	if spec.newer {
		return spec, nil, nil
	}
	given, err := spec.options(words[1:])
	return spec, given, err
}

// options reads the words after the command as the parser of imsg 0.9 does:
// from left to right, and the first complaint is the answer.
func (c command) options(words []string) (options, error) {
	given := options{}
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "--":
			return given, nil // what follows is positional, and ignored as all such words are
		case !isOption(word):
			continue
		case strings.HasPrefix(word, "--") || len([]rune(word)) == 2:
			name, long := strings.CutPrefix(word, "--")
			if !long {
				name = word[1:] // the tool looks for -j as for --j
			}
			n, err := c.take(given, name, words[i+1:])
			if err != nil {
				return nil, err
			}
			i += n
		default:
			for _, letter := range word[1:] {
				if kind, key := c.lookup(string(letter)); kind == kindFlag {
					given[key] = []string{}
					continue
				}
				return nil, usage("Unknown option -%c", letter)
			}
		}
	}
	return given, nil
}

// take reads one option and returns how many of the words behind it belong to
// it.
func (c command) take(given options, name string, rest []string) (int, error) {
	kind, key := c.lookup(name)
	switch kind {
	case kindFlag:
		given[key] = []string{}
		return 0, nil
	case kindValue:
		if len(rest) == 0 || isOption(rest[0]) {
			return 0, usage("Missing value for option --%s", name)
		}
		given[key] = append(given[key], rest[0])
		return 1, nil
	case kindList:
		n := 0
		for n < len(rest) && !isOption(rest[n]) {
			n++
		}
		if given[key] == nil {
			given[key] = []string{}
		}
		given[key] = append(given[key], rest[:n]...)
		return n, nil
	case kindRefused:
		return 0, &channel.NotPermittedError{What: "option --" + name}
	}
	return 0, usage("Unknown option --%s", name)
}

type kind uint8

const (
	kindUnknown kind = iota
	kindValue
	kindList
	kindFlag
	kindRefused
)

// lookup finds an option by its name or a second name of it.
func (c command) lookup(name string) (kind, string) {
	key := name
	if full, ok := aliases[name]; ok {
		key = full
	}
	switch {
	case slices.Contains(c.refused, name):
		return kindRefused, name
	case slices.Contains(c.values, name), name == "db" && !c.bare:
		return kindValue, name
	case slices.Contains(c.lists, name):
		return kindList, name
	case slices.Contains(c.flags, name):
		return kindFlag, name
	case key == "log-level" && !c.raw:
		return kindValue, key
	case (key == "json" || key == "verbose") && !c.raw:
		return kindFlag, key
	}
	return kindUnknown, ""
}

// isOption reports whether the parser takes a word for an option and therefore
// for no value: it begins with a hyphen, is longer than that, and is not a
// number.
func isOption(word string) bool {
	if len(word) < 2 || word[0] != '-' {
		return false
	}
	if word[1] != '.' && (word[1] < '0' || word[1] > '9') {
		return true
	}
	_, err := strconv.ParseFloat(word, 64)
	return err != nil || strings.ContainsAny(word, "_xX")
}
