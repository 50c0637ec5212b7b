// Package channeltest is the conformance suite of the channels: what the
// gateway relies on in every one of them, tried with drawn operations, drawn
// words and drawn answers. A channel's own test describes the channel in a
// Suite and calls Run.
//
// It promises that a channel that passes writes commands that mean what was
// judged (Classify of Command(op), in a client's words again, is op), never
// makes a command from an operation it does not understand, and prints
// refusals as interface §9 fixes them.
//
// It refuses to know any tool: how a command is said in a client's words is
// written by each channel's test, in words of its own, so that an error in
// Command is not repeated by its check.
package channeltest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Suite describes a channel to Run.
type Suite struct {
	Channel channel.Channel
	// Program is how the channel's refusals begin: the tool, or the channel.
	Program string
	// StdoutErrors says that the tool's users look for errors on stdout.
	StdoutErrors bool
	// Operation draws an operation as Classify and Resolve make them.
	Operation func(*rapid.T) policy.Operation
	// Call says a command in a client's words.
	Call func(channel.Command, []policy.File) (channel.Call, error)
	// World answers the question of a channel.Resolver; nil when the channel
	// is none.
	World func(channel.Command) channel.Reply
	// Words are what a hostile command line is made of; empty when the channel
	// has no command line.
	Words []string
	// Answer draws an operation and something that its tool may print as the
	// answer, for Inbound.
	Answer func(*rapid.T) (policy.Operation, []byte)
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	t.Run("round trip", func(t *testing.T) { rapid.Check(t, s.roundTrip) })
	t.Run("strange operations", func(t *testing.T) { rapid.Check(t, s.strange) })
	t.Run("method calls", func(t *testing.T) { rapid.Check(t, s.methods) })
	if len(s.Words) > 0 {
		t.Run("command lines", func(t *testing.T) { rapid.Check(t, s.commandLines) })
	}
	t.Run("answers", func(t *testing.T) { rapid.Check(t, s.answers) })
	t.Run("refusals", func(t *testing.T) { rapid.Check(t, s.refusals) })
}

// Settle does with a classified operation what the daemon does before it
// judges it.
func (s *Suite) Settle(op policy.Operation) (policy.Operation, error) {
	r, ok := s.Channel.(channel.Resolver)
	if !ok {
		return op, nil
	}
	question, ok := r.Lookup(op)
	if !ok {
		return op, nil
	}
	if s.World == nil {
		return op, fmt.Errorf("the channel asks %v and the suite has no World", question)
	}
	op, err := r.Resolve(op, s.World(question))
	if err != nil {
		return op, err
	}
	if again, ok := r.Lookup(op); ok {
		return op, fmt.Errorf("the channel asks again after it was answered: %v", again)
	}
	return op, nil
}

// roundTrip is the property that closes the gap between our reader and the
// tool's: what was judged is what is run.
func (s *Suite) roundTrip(t *rapid.T) {
	want := s.Operation(t)
	command, err := s.Channel.Command(want)
	if err != nil {
		t.Fatalf("Command(%+v): %v", want, err)
	}
	s.checkCommand(t, want, command)
	call, err := s.Call(command, want.Files)
	if err != nil {
		t.Fatalf("the command %+v is nothing a client can say: %v", command, err)
	}
	got, err := s.Channel.Classify(call)
	if err != nil {
		t.Fatalf("Classify(%q %s %s): %v", call.Argv, call.Method, call.Params, err)
	}
	if got, err = s.Settle(got); err != nil {
		t.Fatalf("resolve %+v: %v", got, err)
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b policy.Peer) bool { return a == b })); d != "" {
		t.Fatalf("Classify(Command(op)) is not op (-want +got):\n%s", d)
	}
}

func (s *Suite) checkCommand(t *rapid.T, op policy.Operation, c channel.Command) {
	if (c.Request == nil) == (len(c.Argv) == 0) {
		t.Fatalf("a command is one request or one run: %+v", c)
	}
	for _, arg := range c.Argv {
		for _, private := range op.Body {
			if private != "" && strings.Contains(arg, string(private)) {
				t.Fatalf("argv is readable by every user, and holds the text: %q", c.Argv)
			}
		}
		for _, p := range op.Peers() {
			if strings.Contains(arg, p.ID()) {
				t.Fatalf("argv is readable by every user, and holds a peer: %q", c.Argv)
			}
		}
	}
}

// strange changes a good operation into one that no rule can have judged
// rightly; no command may come of it.
func (s *Suite) strange(t *rapid.T) {
	op := s.Operation(t)
	changes := map[string]func(){
		"another channel":  func() { op.Channel += "x" },
		"no channel":       func() { op.Channel = "" },
		"no verb":          func() { op.Verb = "" },
		"an unknown verb":  func() { op.Verb = "shout" },
		"an item":          func() { op.Verb = policy.VerbReceive },
		"a strange detail": func() { op.Detail = struct{ Path string }{"/etc/passwd"} },
	}
	if op.Verb == policy.VerbSend {
		changes["nobody"] = func() { op.To = nil }
		changes["the zero peer"] = func() { op.To = []policy.Peer{{}} }
		changes["two peers"] = func() { op.To = append(slices.Clone(op.To), op.To...) }
		changes["two texts"] = func() { op.Body = []policy.Text{"a", "b"} }
		changes["nothing to say"] = func() { op.Body, op.Files = nil, nil }
	}
	var names []string
	for n := range changes {
		names = append(names, n)
	}
	slices.Sort(names)
	name := rapid.SampledFrom(names).Draw(t, "change")
	changes[name]()
	if c, err := s.Channel.Command(op); err == nil {
		t.Fatalf("%s made the command %+v", name, c)
	}
}

// methods draws requests of ours, most of them wrong.
func (s *Suite) methods(t *rapid.T) {
	call := channel.Call{
		Method: rapid.SampledFrom([]string{"send", "get_history", "list_chats", "watch", "status", "SEND", "send "}).Draw(t, "method"),
		Params: json.RawMessage(rapid.OneOf(
			rapid.SampledFrom([]string{
				``, `null`, `[]`, `{}`, `{"to":"a","to":"b","text":"t"}`, `{"TO":"a","text":"t"}`, `{"to":null,"text":"t"}`,
				`{"to":"a","text":"t","extra":1}`, `{"to":"","text":"t"}`, `{"to":["a"],"text":"t"}`, `{"to":"a","text":"t"}{}`,
				`{"limit":0}`, `{"limit":-1}`, `{"limit":1.5}`, `{"limit":"5"}`, `{"limit":100000}`, `{"peer":"a","chat":"b"}`, `{"to":"a`,
			}),
			rapid.StringMatching(`\{"(to|text|peer|chat|limit|chat_id)":("[a-z+@;0-9]{0,12}"|-?[0-9]{1,3}|null|true)(,"(to|text|limit)":("[a-z]{0,4}"|[0-9]))?\}`),
		).Draw(t, "params")),
	}
	s.checkCall(t, call)
}

// commandLines draws command lines from the tool's words.
func (s *Suite) commandLines(t *rapid.T) {
	words := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(s.Words), rapid.StringN(0, 8, 32)), 0, 9).Draw(t, "words")
	s.checkCall(t, channel.Call{Argv: append([]string{s.Program}, words...)})
}

// CheckCall fails the test when a call, whatever it says, becomes something
// that the gateway must not run. It is what fuzzers call.
func (s *Suite) CheckCall(t testing.TB, call channel.Call) { s.checkCall(t, call) }

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func (s *Suite) checkCall(t failer, call channel.Call) {
	t.Helper()
	op, err := s.Channel.Classify(call)
	if err != nil {
		out := s.Channel.Render(call, op, channel.Result{Err: &channel.Refusal{Code: channel.CodeNotPermitted, Reason: err.Error()}})
		if call.Method == "" && out.Exit == 0 {
			t.Fatalf("a refusal of %q ends 0", call.Argv)
		}
		return
	}
	if op.Channel != s.Channel.Name() || op.Verb == "" || op.Command == "" {
		t.Fatalf("Classify(%q %s %s) left out what it is: %+v", call.Argv, call.Method, call.Params, op)
	}
	settled, err := s.Settle(op)
	if err != nil {
		return
	}
	if settled.Verb != op.Verb || settled.Command != op.Command || settled.Channel != op.Channel || !slices.Equal(settled.Body, op.Body) {
		t.Fatalf("Resolve changed more than the peer: %+v to %+v", op, settled)
	}
	if settled.Verb == policy.VerbSend && (len(settled.To) != 1 || settled.To[0].IsZero()) {
		t.Fatalf("Classify(%q %s %s) is a send to %v", call.Argv, call.Method, call.Params, settled.To)
	}
	if _, err := s.Channel.Command(settled); err != nil {
		if settled.Verb.Effect() && !errorIs[*channel.ToolError](err) {
			t.Fatalf("Classify(%q %s %s) made what Command does not take: %v", call.Argv, call.Method, call.Params, err)
		}
	}
}

// answers draws what a tool prints.
func (s *Suite) answers(t *rapid.T) {
	op, data := s.Answer(t)
	s.CheckAnswer(t, op, data)
	cut := rapid.IntRange(0, len(data)).Draw(t, "cut")
	s.CheckAnswer(t, op, data[:cut])
	if cut < len(data) {
		torn := bytes.Clone(data)
		torn[cut] = rapid.Byte().Draw(t, "byte")
		s.CheckAnswer(t, op, torn)
	}
}

// CheckAnswer fails the test when Inbound makes of data what the gateway must
// not judge, or when Render shows words that the judges cut out.
func (s *Suite) CheckAnswer(t failer, op policy.Operation, data []byte) {
	t.Helper()
	items, dropped, err := s.Channel.Inbound(op, data)
	if err != nil {
		if len(items) > 0 {
			t.Fatalf("Inbound fails and returns %d items", len(items))
		}
		return
	}
	if dropped < 0 {
		t.Fatalf("Inbound dropped %d", dropped)
	}
	for i, item := range items {
		if item.Verb != policy.VerbReceive || item.Channel != s.Channel.Name() || item.Direction != policy.Inbound || item.Chat.IsZero() {
			t.Fatalf("item %d cannot be judged: %+v", i, item)
		}
		if !op.Chat.IsZero() && item.Chat.Base() != op.Chat.Base() {
			t.Fatalf("item %d is of another conversation than asked for: %s in place of %s", i, item.Chat, op.Chat)
		}
		// What a judge replaces must not come back from somewhere else.
		for j := range item.Body {
			item.Body[j] = "▒"
		}
	}
	again, _, err := s.Channel.Inbound(op, data)
	if err != nil || len(again) != len(items) {
		t.Fatalf("Inbound is not a function: %d items, then %d (%v)", len(items), len(again), err)
	}
	for _, call := range []channel.Call{{Method: "x"}, {Argv: []string{s.Program, op.Command}}, {Argv: []string{s.Program, op.Command, "--json"}}} {
		out := s.Channel.Render(call, op, channel.Result{Shown: items})
		shown := string(out.Stdout) + string(out.Stderr) + fmt.Sprint(out.Result)
		for _, item := range again {
			for _, secret := range item.Body {
				if strings.HasPrefix(string(secret), Canary) && strings.Contains(shown, string(secret)) {
					t.Fatalf("%q was cut out and is shown:\n%s", secret, shown)
				}
			}
		}
	}
}

// Canary begins words that a test looks for in what is shown.
const Canary = "canary-"

// refusals draws refusals and looks at how they are printed.
func (s *Suite) refusals(t *rapid.T) {
	codes := map[int]int{
		channel.CodeDenied: 77, channel.CodeRate: 75, channel.CodeContent: 77, channel.CodeUnavailable: 69,
		channel.CodeHeld: 77, channel.CodeNotPermitted: 77, channel.CodeLocked: 77,
	}
	var known []int
	for c := range codes {
		known = append(known, c)
	}
	slices.Sort(known)
	r := &channel.Refusal{
		Code:   rapid.SampledFrom(known).Draw(t, "code"),
		Reason: rapid.StringOf(rapid.RuneFrom([]rune("abc \n\r\x1b\u202e\u200b\u0085"))).Draw(t, "reason"),
		Hint:   rapid.SampledFrom([]string{"", "the owner can run: sudo -k carapacectl queue show 7f3c9a"}).Draw(t, "hint"),
	}
	if r.Code == channel.CodeHeld {
		r.ID = "7f3c9a"
	}
	out := s.Channel.Render(channel.Call{Argv: []string{s.Program, "send"}}, policy.Operation{}, channel.Result{Err: r})
	if out.Exit != codes[r.Code] {
		t.Fatalf("code %d ends %d, not %d", r.Code, out.Exit, codes[r.Code])
	}
	first, rest := out.Stderr, []byte(nil)
	if s.StdoutErrors {
		first, rest = out.Stdout, out.Stderr
	}
	what := s.Program + ": refused: "
	switch r.Code {
	case channel.CodeHeld:
		what = s.Program + ": held for review (7f3c9a): "
	case channel.CodeUnavailable:
		what = s.Program + ": unavailable: "
	}
	if !bytes.HasPrefix(first, []byte(what)) {
		t.Fatalf("a refusal begins %q, not %q", first, what)
	}
	if r.Hint != "" && !bytes.HasSuffix(append(slices.Clone(first), rest...), []byte(s.Program+": hint: "+r.Hint+"\n")) {
		t.Fatalf("no hint in %q %q", first, rest)
	}
	for _, line := range bytes.Split(append(slices.Clone(out.Stdout), out.Stderr...), []byte("\n")) {
		if len(line) > 0 && !bytes.HasPrefix(line, []byte(s.Program+": ")) {
			t.Fatalf("a reason made a line of its own: %q", line)
		}
		for _, c := range string(line) {
			if unicode.IsControl(c) || unicode.Is(unicode.Cf, c) {
				t.Fatalf("%U reaches the terminal in %q", c, line)
			}
		}
	}
}

func errorIs[E error](err error) bool {
	_, ok := err.(E)
	return ok
}
