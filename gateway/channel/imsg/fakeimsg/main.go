// Fakeimsg is a stand-in for imsg 0.9 that tests run in place of the real
// tool, which exists on macOS only. It is written from contracts/imsg.md, with
// the tool's leniencies and traps, and not from what the gateway sends: it
// takes "5" for 5, lets the last of two recipients win, looks contact names up
// and shows the address book in its complaints.
//
// It promises to write every message that it would send, with the process, the
// user and the environment that it ran in, as one line to sent.jsonl before it
// answers, and to break in the ways that package imsgtest names.
//
// It refuses what needs the injected bridge, as imsg does without it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/channel/imsg/imsgtest"
)

func main() {
	t, err := open()
	if err != nil {
		fmt.Println("fakeimsg:", err)
		os.Exit(1)
	}
	os.Exit(t.run(os.Args))
}

// tool is one run of the stand-in.
type tool struct {
	imsgtest.Fixture
	sends int64 // in this process
}

func open() (*tool, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(self)
	data, err := os.ReadFile(filepath.Join(dir, imsgtest.FixtureFile))
	if err != nil {
		return nil, err
	}
	t := &tool{}
	if err := json.Unmarshal(data, &t.Fixture); err != nil {
		return nil, fmt.Errorf("%s: %w", imsgtest.FixtureFile, err)
	}
	if t.Dir == "" {
		t.Dir = dir
	}
	if t.Version == "" {
		t.Version = "0.9.0"
	}
	return t, nil
}

func (t *tool) run(argv []string) int {
	if f := t.fault("exit"); f == "exit" {
		return 1
	}
	if slices.Contains(argv, "--version") || slices.Contains(argv, "-V") {
		if v := os.Getenv("IMSG_VERSION"); v != "" {
			t.Version = v
		}
		fmt.Println(t.Version)
		return 0
	}
	if len(argv) <= 1 || slices.Contains(argv, "--help") || slices.Contains(argv, "-h") {
		t.help(argv)
		return 0
	}
	if strings.HasPrefix(argv[1], "-") {
		fmt.Println("Command 'imsg' requires a subcommand")
		t.help(nil)
		return 1
	}
	cmd, ok := commands[argv[1]]
	if !ok {
		fmt.Printf("Unknown subcommand '%s' for command 'imsg'\n", argv[1])
		return 1
	}
	a, err := parse(cmd, argv[2:])
	if err == nil {
		err = cmd.run(t, a)
	}
	if err != nil {
		if code, ok := err.(exitCode); ok {
			return int(code)
		}
		fmt.Println(err)
		return 1
	}
	return 0
}

// exitCode ends the program without a word.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprint("exit ", int(c)) }

func (t *tool) help(argv []string) {
	if len(argv) > 1 {
		if cmd, ok := commands[argv[1]]; ok {
			fmt.Printf("imsg %s\n%s\n", argv[1], cmd.about)
			return
		}
	}
	fmt.Printf("imsg %s\nSend and read iMessage / SMS from the terminal\n", t.Version)
}

type command struct {
	about         string
	values, flags []string
	run           func(*tool, args) error
}

var commands = map[string]command{
	"send": {"Send a message (text and/or attachment)",
		[]string{"db", "to", "chat-id", "chat-identifier", "chat-guid", "text", "file", "service", "region"}, nil, (*tool).cliSend},
	"chats":   {"List recent conversations", []string{"db", "limit"}, nil, (*tool).cliChats},
	"history": {"Show recent messages for a chat", []string{"db", "chat-id", "limit", "participants", "start", "end"}, []string{"attachments", "convert-attachments"}, (*tool).cliHistory},
	"rpc":     {"Run JSON-RPC over stdin/stdout", []string{"db"}, nil, func(t *tool, _ args) error { return t.rpc(os.Stdin, os.Stdout) }},
}

// args are the values of each option in order, and flags with none.
type args map[string][]string

func (a args) last(name string) string {
	if v := a[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// parse reads options as Commander 0.2 does.
func parse(cmd command, words []string) (args, error) {
	a := args{}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" {
			break
		}
		if !dashed(word) {
			continue
		}
		names := []string{strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")}
		pack := !strings.HasPrefix(word, "--") && len(word) > 2
		if pack {
			names = strings.Split(word[1:], "")
		}
		for _, name := range names {
			long := map[string]string{"j": "json", "json-output": "json", "jsonOutput": "json", "v": "verbose", "logLevel": "log-level"}[name]
			if long == "" {
				long = name
			}
			switch {
			case long == "json" || long == "verbose" || slices.Contains(cmd.flags, name):
				a[long] = []string{}
			case pack:
				return nil, fmt.Errorf("Unknown option -%s", name)
			case name == "participants" && slices.Contains(cmd.values, name):
				for len(words) > 0 && !dashed(words[0]) {
					a[name] = append(a[name], words[0])
					words = words[1:]
				}
			case long == "log-level" || slices.Contains(cmd.values, name):
				if len(words) == 0 || dashed(words[0]) {
					return nil, fmt.Errorf("Missing value for option --%s", name)
				}
				a[long] = append(a[long], words[0])
				words = words[1:]
			default:
				return nil, fmt.Errorf("Unknown option --%s", name)
			}
		}
	}
	return a, nil
}

func dashed(word string) bool { return len(word) > 1 && word[0] == '-' }
