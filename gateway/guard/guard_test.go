package guard

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

func peer(t testing.TB, channel, text string) policy.Peer {
	t.Helper()
	p, err := policy.ParsePeer(channel, text, "US")
	if err != nil {
		t.Fatalf("ParsePeer(%s, %q): %v", channel, text, err)
	}
	return p
}

// entries reads a list; the place of an entry is "LIST:TEXT".
func entries(t testing.TB, channel, list string, texts ...string) []policy.Entry {
	t.Helper()
	var all []policy.Entry
	for _, text := range texts {
		p, err := policy.ParsePattern(channel, text, "US")
		if err != nil {
			t.Fatalf("ParsePattern(%s, %q): %v", channel, text, err)
		}
		all = append(all, policy.Entry{Pattern: p, Where: list + ":" + text})
	}
	return all
}

const (
	bob   = "+14155551212"
	eve   = "+14155550666"
	carl  = "+14155550003"
	group = "chat:iMessage;+;chat700"
)

var plenty = policy.Limit{Requests: 1000000, Per: time.Second}

// rules is a policy in which bob and one group are permitted both ways, eve is
// denied, and everybody else is refused.
func rules(t testing.TB) *policy.Policy {
	return &policy.Policy{
		Global: plenty, Default: plenty, PerPeer: plenty, Attempts: plenty,
		Channels: map[string]*policy.ChannelPolicy{
			"imessage": {
				Enabled: true, Where: "channel",
				Outbound: policy.List{Where: "out", Allow: entries(t, "imessage", "allow", bob, group), Deny: entries(t, "imessage", "deny", eve)},
				Inbound:  policy.List{Where: "in", Allow: entries(t, "imessage", "allow", bob, group), Deny: entries(t, "imessage", "deny", eve)},
			},
			"loopback": {Enabled: true, Where: "loop",
				Outbound: policy.List{Where: "out", Allow: entries(t, "loopback", "allow", "echo")},
				Inbound:  policy.List{Where: "in", Allow: entries(t, "loopback", "allow", "echo")}},
		},
	}
}

func unlocked() (bool, string) { return false, "" }

func guardOf(p *policy.Policy) *Guard { return New(p, NewLimiter(p), unlocked) }

func send(t testing.TB, to ...string) *policy.Operation {
	op := &policy.Operation{Channel: "imessage", Verb: policy.VerbSend, Command: "send", Default: true, Body: []policy.Text{"hello"}}
	for _, text := range to {
		op.To = append(op.To, peer(t, "imessage", text))
	}
	return op
}

func TestPeerRule(t *testing.T) {
	p := rules(t)
	hold := rules(t)
	hold.Channels["imessage"].Outbound.Otherwise = policy.Hold
	hold.Channels["imessage"].Inbound.Otherwise = policy.Hold
	anySender := rules(t)
	anySender.Channels["imessage"].GroupSenders = policy.SendersAny
	off := rules(t)
	off.Channels["imessage"].Enabled = false

	at := func(text string) policy.Peer {
		if text == "" {
			return policy.Peer{}
		}
		return peer(t, "imessage", text)
	}
	effect := func(verb policy.Verb, chat string, to ...string) *policy.Operation {
		op := send(t, to...)
		op.Verb, op.Chat = verb, at(chat)
		return op
	}
	read := func(verb policy.Verb, chat string) *policy.Operation {
		return &policy.Operation{Channel: "imessage", Verb: verb, Command: "history", Default: true, Chat: at(chat)}
	}
	item := func(chat, from string, group bool) *policy.Operation {
		return &policy.Operation{Channel: "imessage", Direction: policy.Inbound, Verb: policy.VerbReceive, Command: "history", Default: true, Chat: at(chat), From: at(from), Group: group}
	}
	for name, c := range map[string]struct {
		policy *policy.Policy
		op     *policy.Operation
		want   policy.Action
		rule   string
		reason string
	}{
		"listed":                              {p, send(t, bob), policy.Allow, "allow:" + bob, ""},
		"not listed":                          {p, send(t, carl), policy.Deny, "out", notListedTo},
		"denied sounds like not listed":       {p, send(t, eve), policy.Deny, "deny:" + eve, notListedTo},
		"nobody":                              {p, send(t), policy.Deny, "peer:imessage", noRecipient},
		"a chat is no recipient":              {p, effect(policy.VerbSend, bob), policy.Deny, "peer:imessage", noRecipient},
		"one of two not listed":               {p, send(t, bob, carl), policy.Deny, "out", notListedTo},
		"the chat is judged too":              {p, effect(policy.VerbSend, carl, bob), policy.Deny, "out", notListedTo},
		"group":                               {p, effect(policy.VerbSend, group, group), policy.Allow, "allow:" + group, ""},
		"zero recipient":                      {p, &policy.Operation{Channel: "imessage", Verb: policy.VerbSend, Default: true, To: []policy.Peer{{}}}, policy.Deny, "out", notListedTo},
		"held":                                {hold, send(t, carl), policy.Hold, "out", notListedTo},
		"denied, not held":                    {hold, send(t, carl, eve), policy.Deny, "deny:" + eve, notListedTo},
		"typing in a chat":                    {p, effect(policy.VerbPresence, bob), policy.Allow, "allow:" + bob, ""},
		"typing nowhere":                      {p, effect(policy.VerbPresence, ""), policy.Deny, "peer:imessage", noRecipient},
		"edit in a chat not listed":           {p, effect(policy.VerbMutate, carl), policy.Deny, "out", notListedTo},
		"unknown verb reaching nobody":        {p, effect("explode", ""), policy.Deny, "peer:imessage", noRecipient},
		"unknown verb":                        {p, effect("explode", "", carl), policy.Deny, "out", notListedTo},
		"admin reaches nobody":                {p, effect(policy.VerbAdmin, ""), policy.Allow, "channel", ""},
		"admin that names somebody":           {p, effect(policy.VerbAdmin, carl), policy.Deny, "out", notListedTo},
		"status":                              {p, read(policy.VerbStatus, ""), policy.Allow, "channel", ""},
		"read everything":                     {p, read(policy.VerbRead, ""), policy.Allow, "channel", ""},
		"list":                                {p, read(policy.VerbList, ""), policy.Allow, "channel", ""},
		"read one chat":                       {p, read(policy.VerbRead, bob), policy.Allow, "allow:" + bob, ""},
		"watch a chat not listed":             {p, read(policy.VerbWatch, carl), policy.Deny, "in", notListedAt},
		"a question is not held":              {hold, read(policy.VerbRead, carl), policy.Deny, "in", notListedAt},
		"message from bob":                    {p, item(bob, bob, false), policy.Allow, "allow:" + bob, ""},
		"message from carl":                   {p, item(carl, carl, false), policy.Deny, "in", notListedIn},
		"message from carl is held":           {hold, item(carl, carl, false), policy.Hold, "in", notListedIn},
		"own message to bob":                  {p, item(bob, "", false), policy.Allow, "allow:" + bob, ""},
		"own message to carl":                 {p, item(carl, "", false), policy.Deny, "in", notListedAt},
		"from nobody":                         {p, item("", "", false), policy.Deny, "peer:imessage", noSender},
		"bob in the group":                    {p, item(group, bob, true), policy.Allow, "allow:" + group, ""},
		"carl in the group":                   {p, item(group, carl, true), policy.Deny, "in", notListedIn},
		"carl in the group, any":              {anySender, item(group, carl, true), policy.Allow, "allow:" + group, ""},
		"eve in the group, any":               {anySender, item(group, eve, true), policy.Deny, "deny:" + eve, notListedIn},
		"owner in the group":                  {p, item(group, "", true), policy.Allow, "allow:" + group, ""},
		"bob in another group":                {p, item("chat:iMessage;+;chat701", bob, true), policy.Deny, "in", notListedAt},
		"a group that claims to be direct":    {p, item("chat:iMessage;+;chat701", bob, false), policy.Deny, "in", notListedAt},
		"a group without a name":              {p, item("", bob, true), policy.Deny, "in", notListedAt},
		"channel off":                         {off, send(t, bob), policy.Deny, "channel", notEnabled},
		"channel off, inbound":                {off, item(bob, bob, false), policy.Deny, "channel", notEnabled},
		"channel off, status":                 {off, read(policy.VerbStatus, ""), policy.Deny, "channel", notEnabled},
		"channel that the policy lacks":       {&policy.Policy{}, send(t, bob), policy.Deny, "channel:imessage", notEnabled},
		"no policy":                           {nil, send(t, bob), policy.Deny, "channel:imessage", notEnabled},
		"the same number as an odd duplicate": {p, send(t, bob, "(415) 555-1212"), policy.Allow, "allow:" + bob, ""},
	} {
		limiter := NewLimiter(rules(t))
		d := New(c.policy, limiter, unlocked).Decide(context.Background(), c.op)
		if d.Action != c.want || d.Rule != c.rule || c.reason != "" && d.Reason != c.reason {
			t.Errorf("%s: %s by %q (%s); want %s by %q (%s)\nopinions: %+v", name, d.Action, d.Rule, d.Reason, c.want, c.rule, c.reason, d.Opinions)
		}
		if d.Stage != policy.StagePeer {
			t.Errorf("%s: decided at stage %s", name, d.Stage)
		}
	}
}

func TestReservedPeers(t *testing.T) {
	strict := rules(t)
	strict.Channels["loopback"] = &policy.ChannelPolicy{Enabled: true, DenyCommands: []string{"send", "history"},
		Outbound: policy.List{Deny: entries(t, "loopback", "deny", "verify-*")}}
	strict.QuietHours = &policy.QuietHours{From: 0, To: 24*60 - 1, Zone: time.UTC}
	absent := rules(t)
	absent.Channels = nil
	off := rules(t)
	off.Channels["loopback"].Enabled = false
	open := rules(t)
	open.Channels["loopback"].Outbound = policy.List{Mode: policy.Open, Allow: entries(t, "loopback", "allow", "verify-stranger")}
	open.Channels["loopback"].Inbound = open.Channels["loopback"].Outbound

	ok, stranger, echo := peer(t, "loopback", policy.VerifyOK), peer(t, "loopback", policy.VerifyStranger), peer(t, "loopback", "echo")
	op := func(verb policy.Verb, command string, to ...policy.Peer) *policy.Operation {
		return &policy.Operation{Channel: "loopback", Verb: verb, Command: command, Default: true, To: to}
	}
	read := func(chat policy.Peer) *policy.Operation {
		o := op(policy.VerbRead, "history")
		o.Chat = chat
		return o
	}
	item := func(from policy.Peer) *policy.Operation {
		return &policy.Operation{Channel: "loopback", Direction: policy.Inbound, Verb: policy.VerbReceive, Command: "history", Default: true, From: from, Chat: from}
	}
	for name, p := range map[string]*policy.Policy{"strict": strict, "absent": absent, "off": off, "open": open, "usual": rules(t)} {
		for what, c := range map[string]struct {
			op   *policy.Operation
			want policy.Action
		}{
			"send to ok":       {op(policy.VerbSend, "send", ok), policy.Allow},
			"send to stranger": {op(policy.VerbSend, "send", stranger), policy.Deny},
			"send to both":     {op(policy.VerbSend, "send", ok, stranger), policy.Deny},
			"read of ok":       {read(ok), policy.Allow},
			"read of stranger": {read(stranger), policy.Deny},
			"item of ok":       {item(ok), policy.Allow},
			"item of stranger": {item(stranger), policy.Deny},
		} {
			if d := guardOf(p).Decide(context.Background(), c.op); d.Action != c.want {
				t.Errorf("%s policy: %s: %s by %s (%s); want %s", name, what, d.Action, d.Rule, d.Reason, c.want)
			}
		}
	}
	// A reserved peer opens nothing for those beside it.
	if d := guardOf(off).Decide(context.Background(), op(policy.VerbSend, "send", ok, echo)); d.Action != policy.Deny || d.Told.Reason != notEnabled {
		t.Errorf("a channel that is off delivers to echo: %+v", d)
	}
	// Nothing but the peer rule is lifted for them.
	notDefault := op(policy.VerbSend, "send", ok)
	notDefault.Default = false
	if d := guardOf(rules(t)).Decide(context.Background(), notDefault); d.Action != policy.Deny || d.Told.Stage != policy.StageCommand {
		t.Errorf("a command that the channel does not permit: %+v", d)
	}
	locked := New(rules(t), NewLimiter(rules(t)), func() (bool, string) { return true, "" })
	if d := locked.Decide(context.Background(), op(policy.VerbSend, "send", ok)); d.Action != policy.Deny {
		t.Errorf("locked, and a message passes: %+v", d)
	}
	// The names mean nothing on another channel.
	other := rules(t)
	other.Channels["gmail"] = &policy.ChannelPolicy{Enabled: true}
	o := op(policy.VerbSend, "send", peer(t, "gmail", "verify-ok@example.com"))
	o.Channel = "gmail"
	if d := guardOf(other).Decide(context.Background(), o); d.Action != policy.Deny {
		t.Errorf("verify-ok at gmail: %+v", d)
	}
}

func TestLockAndCommand(t *testing.T) {
	p := rules(t)
	c := p.Channels["imessage"]
	c.AllowCommands, c.AllowWhere = []string{"react", "chats"}, "commands.allow"
	c.DenyCommands, c.DenyWhere = []string{"chats", "send"}, "commands.deny"
	op := func(command string, byDefault bool) *policy.Operation {
		return &policy.Operation{Channel: "imessage", Verb: policy.VerbStatus, Command: command, Default: byDefault}
	}
	for _, c := range []struct {
		op   *policy.Operation
		want policy.Action
		rule string
	}{
		{op("version", true), policy.Allow, "command:version"},
		{op("edit", false), policy.Deny, "command:edit"},
		{op("react", false), policy.Allow, "commands.allow"},
		{op("chats", true), policy.Deny, "commands.deny"},
		{op("send", true), policy.Deny, "commands.deny"},
	} {
		v := guardOf(p).Decide(context.Background(), c.op).Opinions[1]
		if v.Stage != policy.StageCommand || v.Action != c.want || v.Rule != c.rule {
			t.Errorf("%s: %+v; want %s by %s", c.op.Command, v, c.want, c.rule)
		}
	}

	for name, locked := range map[string]func() (bool, string){
		"locked": func() (bool, string) { return true, "laptop stolen" },
		"nil":    nil,
	} {
		g := New(rules(t), NewLimiter(rules(t)), locked)
		d := g.Decide(context.Background(), send(t, bob))
		if d.Action != policy.Deny || d.Told.Stage != policy.StageLock || strings.Contains(d.Told.Reason, "stolen") {
			t.Errorf("%s: %+v", name, d.Told)
		}
		if name == "locked" && !strings.Contains(d.Told.Rule, "laptop stolen") {
			t.Errorf("the log does not learn why: %q", d.Told.Rule)
		}
		status := &policy.Operation{Channel: "imessage", Verb: policy.VerbStatus, Default: true}
		if d := g.Decide(context.Background(), status); d.Action != policy.Allow {
			t.Errorf("%s: status is refused: %+v", name, d)
		}
	}
}

func TestContent(t *testing.T) {
	p := rules(t)
	pattern := func(id, re string, a policy.Action, d policy.Direction) policy.ContentPattern {
		return policy.ContentPattern{ID: id, Regexp: regexp.MustCompile(re), Action: a, Direction: d, Where: "line-" + id}
	}
	p.Patterns = []policy.ContentPattern{
		pattern("ssn", `\b\d{3}-\d{2}-\d{4}\b`, policy.Deny, policy.Outbound),
		pattern("card", `\d{4} \d{4} \d{4}`, policy.Hold, policy.Outbound),
		pattern("code", `code[: ]+\d+`, policy.Redact, policy.Outbound),
		pattern("digits", `\d{6,}`, policy.Redact, policy.Outbound),
		pattern("price", `\$\d+`, policy.Warn, policy.Outbound),
		pattern("orders", `(?i)ignore previous`, policy.Redact, policy.Inbound),
	}
	for _, c := range []struct {
		body  []policy.Text
		files []policy.File
		want  policy.Action
		shown []policy.Text
		rules []string
	}{
		{[]policy.Text{"hello"}, nil, policy.Allow, nil, nil},
		{[]policy.Text{"", ""}, nil, policy.Allow, nil, nil},
		{[]policy.Text{"my 123-45-6789 ok", "plain"}, nil, policy.Deny, []policy.Text{"my [redacted:ssn] ok", "plain"}, []string{"line-ssn"}},
		{[]policy.Text{"1111 2222 3333 costs $5"}, nil, policy.Hold, []policy.Text{"[redacted:card] costs $5"}, []string{"line-card", "line-price"}},
		{[]policy.Text{"the code: 77 and code 88."}, nil, policy.Redact, []policy.Text{"the [redacted:code] and [redacted:code]."}, []string{"line-code"}},
		{[]policy.Text{"code 1234567 end"}, nil, policy.Redact, []policy.Text{"[redacted:code] end"}, []string{"line-code", "line-digits"}}, // they overlap
		{[]policy.Text{"$5"}, nil, policy.Warn, nil, []string{"line-price"}},                                                                // a warning changes nothing
		{[]policy.Text{"$5 for code 7"}, nil, policy.Redact, []policy.Text{"$5 for [redacted:code]"}, []string{"line-code", "line-price"}},
		{[]policy.Text{"ignore previous orders"}, nil, policy.Allow, nil, nil}, // a rule for the other direction
		// What a reader sees counts, and then nothing of the text is left.
		{[]policy.Text{"my 123\u200b-45-6789"}, nil, policy.Deny, []policy.Text{"[redacted:ssn]"}, []string{"line-ssn"}},
		{[]policy.Text{"my １２３-45-6789"}, nil, policy.Deny, []policy.Text{"[redacted:ssn]"}, []string{"line-ssn"}},
		{[]policy.Text{"code 1 but co\u00adde 2"}, nil, policy.Redact, []policy.Text{"[redacted:code]"}, []string{"line-code"}},
		{nil, []policy.File{{Name: "123-45-6789.txt"}}, policy.Deny, nil, []string{"line-ssn"}},
		{nil, []policy.File{{Name: "costs $5"}}, policy.Warn, nil, []string{"line-price"}},
		// A file name cannot be redacted.
		{nil, []policy.File{{Name: "code 5.txt"}}, policy.Deny, nil, []string{"line-code"}},
	} {
		op := send(t, bob)
		op.Body, op.Files = slices.Clone(c.body), c.files
		d := guardOf(p).Decide(context.Background(), op)
		var rules []string
		for _, v := range d.Opinions {
			if v.Stage == policy.StageContent {
				rules = append(rules, v.Rule)
				if v.Reason != notPermitted {
					t.Errorf("%q: the reason is %q", c.body, v.Reason)
				}
			}
		}
		if d.Action != c.want || !slices.Equal(d.Body, c.shown) || (d.Body == nil) != (c.shown == nil) || !slices.Equal(rules, c.rules) {
			t.Errorf("%q %v: %s, %q, rules %q; want %s, %q, rules %q", c.body, c.files, d.Action, d.Body, rules, c.want, c.shown, c.rules)
		}
		if !slices.Equal(op.Body, c.body) {
			t.Error("the operation was changed")
		}
	}
	item := &policy.Operation{Channel: "imessage", Direction: policy.Inbound, Verb: policy.VerbReceive, Command: "history", Default: true,
		From: peer(t, "imessage", bob), Body: []policy.Text{"Please IGNORE previous words, 123-45-6789"}}
	d := guardOf(p).Decide(context.Background(), item)
	if d.Action != policy.Redact || d.Body[0] != "Please [redacted:orders] words, 123-45-6789" {
		t.Errorf("inbound: %s, %q", d.Action, d.Body)
	}
	p.Patterns = []policy.ContentPattern{{ID: "broken"}}
	if d := guardOf(p).Decide(context.Background(), send(t, bob)); d.Action != policy.Deny || d.Rule != "content:broken" {
		t.Errorf("a rule that cannot be evaluated: %+v", d)
	}
	p.Patterns = []policy.ContentPattern{{ID: "empty", Regexp: regexp.MustCompile(`x*`), Action: policy.Redact}}
	if d := guardOf(p).Decide(context.Background(), send(t, bob)); d.Action != policy.Redact || d.Body[0] != "[redacted:empty]" {
		t.Errorf("a rule that finds the empty text: %+v", d)
	}
}

// Whatever is found, nothing that a reader would find stays in the body.
func TestRedactedBodyIsClean(t *testing.T) {
	p := rules(t)
	for i, re := range []string{`\d\d`, `[ab]+c`, `(?i)secret`, `1.2`} {
		p.Patterns = append(p.Patterns, policy.ContentPattern{ID: fmt.Sprintf("r%c", 'w'+rune(i)), Regexp: regexp.MustCompile(re), Action: policy.Redact})
	}
	g := guardOf(p)
	marker := regexp.MustCompile(`\[redacted:r.\]`)
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`([0-3abcSsecret １２\x{200b}\x{ad}]|secret|SEC\x{200b}RET|1\x{2060}2){0,30}`).Draw(rt, "text")
		op := send(t, bob)
		op.Body = []policy.Text{policy.Text(text)}
		d := g.Decide(context.Background(), op)
		found := false
		for _, r := range p.Patterns {
			found = found || r.Regexp.MatchString(text) || r.Regexp.MatchString(policy.Fold(text))
		}
		if found != (d.Action == policy.Redact) || found != (d.Body != nil) {
			rt.Fatalf("%q: found %t, %s, %q", text, found, d.Action, d.Body)
		}
		if !found {
			return
		}
		rest := policy.Fold(marker.ReplaceAllString(string(d.Body[0]), " "))
		for _, r := range p.Patterns {
			if r.Regexp.MatchString(rest) {
				rt.Fatalf("%q became %q, which still has %q", text, d.Body[0], r.Regexp.FindString(rest))
			}
		}
	})
}

func TestQuietHours(t *testing.T) {
	// The clock of a bubble starts at midnight UTC.
	synctest.Test(t, func(t *testing.T) {
		p := rules(t)
		p.QuietHours = &policy.QuietHours{From: 22 * 60, To: 7 * 60, Zone: time.UTC, Action: policy.Hold, Where: "quiet"}
		g := guardOf(p)
		d := g.Decide(t.Context(), send(t, bob))
		if d.Action != policy.Hold || d.Rule != "quiet" || d.RetryAfter != 7*time.Hour || d.Told.Reason != "quiet hours" {
			t.Errorf("at night: %+v", d.Verdict)
		}
		read := &policy.Operation{Channel: "imessage", Verb: policy.VerbRead, Command: "history", Default: true}
		if d := g.Decide(t.Context(), read); d.Action != policy.Allow {
			t.Errorf("reading at night: %+v", d.Verdict)
		}
		p.QuietHours.Action = policy.Deny
		if d := g.Decide(t.Context(), send(t, bob)); d.Action != policy.Deny || d.Stage != policy.StageRate {
			t.Errorf("at night, denied: %+v", d.Verdict)
		}
		time.Sleep(7 * time.Hour)
		if d := g.Decide(t.Context(), send(t, bob)); d.Action != policy.Allow {
			t.Errorf("in the morning: %+v", d.Verdict)
		}
	})
}

// Defect i of the original: its sample configuration let everybody in. Here the
// zero of every part refuses.
func TestOriginDefectI_ZeroPermitsNobody(t *testing.T) {
	p := rules(t)
	p.Channels["imessage"] = &policy.ChannelPolicy{Enabled: true}
	in := &policy.Operation{Channel: "imessage", Direction: policy.Inbound, Verb: policy.VerbReceive, Default: true, From: peer(t, "imessage", bob)}
	for _, op := range []*policy.Operation{send(t, bob), in, {}, {Channel: "imessage"}, {Channel: "imessage", Default: true}} {
		if d := guardOf(p).Decide(context.Background(), op); d.Action != policy.Deny {
			t.Errorf("%+v: %+v", op, d.Verdict)
		}
	}
	if strictest, told := conclude(nil); strictest.Action != policy.Deny || told.Action != policy.Deny {
		t.Errorf("no opinion permits: %+v, %+v", strictest, told)
	}
}

// drawCase makes a random policy and a random question to it.
func drawCase(t *testing.T, rt *rapid.T) (*policy.Policy, *policy.Operation) {
	who := []string{bob, eve, carl, group}
	pick := func(label string) []policy.Entry {
		return entries(t, "imessage", label, rapid.SliceOfN(rapid.SampledFrom(who), 0, 3).Draw(rt, label)...)
	}
	list := func(label string) policy.List {
		return policy.List{Mode: policy.Mode(rapid.IntRange(0, 2).Draw(rt, "mode")), Allow: pick(label + " allow"), Deny: pick(label + " deny"),
			Otherwise: policy.Action(rapid.IntRange(0, 1).Draw(rt, "otherwise")), Where: label}
	}
	p := rules(t)
	p.Channels["imessage"] = &policy.ChannelPolicy{
		Enabled: rapid.IntRange(0, 5).Draw(rt, "enabled") > 0, Outbound: list("out"), Inbound: list("in"),
		GroupSenders: policy.Senders(rapid.IntRange(0, 1).Draw(rt, "senders")),
		DenyCommands: rapid.SliceOfN(rapid.SampledFrom([]string{"send", "history"}), 0, 1).Draw(rt, "denied"),
	}
	for i, a := range rapid.SliceOfN(rapid.IntRange(0, 3), 0, 3).Draw(rt, "rules") {
		p.Patterns = append(p.Patterns, policy.ContentPattern{ID: fmt.Sprint(i), Regexp: regexp.MustCompile(string(rune('a' + i))), Action: policy.Action(a),
			Direction: policy.Direction(rapid.IntRange(0, 1).Draw(rt, "direction"))})
	}
	if rapid.Bool().Draw(rt, "quiet") {
		p.QuietHours = &policy.QuietHours{From: 0, To: 24*60 - 1, Zone: time.UTC, Action: policy.Action(rapid.IntRange(0, 1).Draw(rt, "quiet action"))}
	}
	op := &policy.Operation{
		Channel: "imessage", Command: rapid.SampledFrom([]string{"send", "history"}).Draw(rt, "command"), Default: rapid.IntRange(0, 5).Draw(rt, "default") > 0,
		Verb: rapid.SampledFrom([]policy.Verb{policy.VerbStatus, policy.VerbList, policy.VerbRead, policy.VerbReceive, policy.VerbSend, policy.VerbSend, policy.VerbPresence, policy.VerbAdmin}).Draw(rt, "verb"),
		Body: []policy.Text{policy.Text(rapid.StringMatching(`[a-f]{0,4}`).Draw(rt, "body"))}, Group: rapid.Bool().Draw(rt, "group"),
	}
	draw := func(label string) policy.Peer {
		if i := rapid.IntRange(-2, len(who)-1).Draw(rt, label); i >= 0 {
			return peer(t, "imessage", who[i])
		}
		return policy.Peer{}
	}
	op.Chat, op.From = draw("chat"), draw("from")
	for range rapid.IntRange(0, 2).Draw(rt, "recipients") {
		op.To = append(op.To, draw("to"))
	}
	return p, op
}

func TestDecideProperties(t *testing.T) {
	// How long something must wait differs from one moment to the next.
	timeless := func(d Decision) string {
		d.RetryAfter, d.Told.RetryAfter = 0, 0
		d.Opinions = slices.Clone(d.Opinions)
		for i := range d.Opinions {
			d.Opinions[i].RetryAfter = 0
		}
		return fmt.Sprintf("%+v", d)
	}
	rapid.Check(t, func(rt *rapid.T) {
		p, op := drawCase(t, rt)
		locked := rapid.IntRange(0, 5).Draw(rt, "locked") == 0
		limiter := NewLimiter(p)
		g := New(p, limiter, func() (bool, string) { return locked, "" })
		explained := g.Explain(context.Background(), op)
		if len(limiter.tat) != 0 {
			rt.Fatalf("to explain spent %d tokens", len(limiter.tat))
		}
		d := g.Decide(context.Background(), op)
		if timeless(explained) != timeless(d) {
			rt.Fatalf("explained as %+v, decided as %+v", explained, d)
		}

		strictest, stage := policy.Allow, policy.StageNone
		var first *policy.Verdict
		for i, v := range d.Opinions {
			if v.Stage < stage || v.Stage == policy.StageNone {
				rt.Fatalf("opinions out of their order: %+v", d.Opinions)
			}
			stage, strictest = v.Stage, min(strictest, v.Action)
			if first == nil && v.Action <= policy.Hold {
				first = &d.Opinions[i]
			}
			if v.Rule == "" || v.Reason == "" {
				rt.Fatalf("an opinion without rule or reason: %+v", v)
			}
			for _, secret := range []string{bob[1:], eve[1:], carl[1:], "chat700", "allow", "deny", "content:", "[redacted"} {
				if strings.Contains(v.Reason, secret) {
					rt.Fatalf("the reason %q tells about %q", v.Reason, secret)
				}
			}
		}
		if len(d.Opinions) < 3 || d.Action != strictest {
			rt.Fatalf("%s of %+v", d.Action, d.Opinions)
		}
		if first != nil && d.Told != *first || first == nil && d.Told != d.Verdict {
			rt.Fatalf("told %+v of %+v", d.Told, d.Opinions)
		}
		spent := len(limiter.tat) > 0
		if passes := d.Action > policy.Hold; spent != (passes && op.Verb.Effect()) {
			rt.Fatalf("%s %s: spent %t", d.Action, op.Verb, spent)
		}
		if d.Action > policy.Hold && locked && op.Verb != policy.VerbStatus {
			rt.Fatalf("passes although locked: %+v", d)
		}
		// The independent reading of the most important rule.
		if op.Verb == policy.VerbSend && d.Action > policy.Hold {
			if len(op.To) == 0 {
				rt.Fatal("a message to nobody passes")
			}
			for _, q := range op.Peers() {
				if a, _ := p.Channels["imessage"].Outbound.Judge(q); a != policy.Allow && q != op.From {
					rt.Fatalf("a message to %q passes: %s", q, a)
				}
			}
		}
	})
}

func TestDecideGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := rules(t)
	limiter := NewLimiter(p)
	if d := New(p, limiter, unlocked).Decide(ctx, send(t, bob)); d.Action != policy.Deny || len(limiter.tat) != 0 {
		t.Errorf("a request that was given up: %+v, %d tokens", d.Verdict, len(limiter.tat))
	}
}

// BenchmarkDecide judges a message to the last of 101 people, without and with
// a content rule; the aim is 2 µs without.
func BenchmarkDecide(b *testing.B) {
	p := rules(b)
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("+1415777%04d", i))
	}
	p.Channels["imessage"].Outbound.Allow = entries(b, "imessage", "allow", append(many, bob)...)
	op := send(b, bob)
	op.Body = []policy.Text{"see you at the station at eight, bring the tickets"}
	ssn := []policy.ContentPattern{{ID: "ssn", Regexp: regexp.MustCompile(`\b\d{3}-\d{2}-\d{4}\b`)}}
	for _, c := range []struct {
		name     string
		patterns []policy.ContentPattern
	}{{"peers", nil}, {"content", ssn}} {
		b.Run(c.name, func(b *testing.B) {
			q := *p
			q.Patterns = c.patterns
			g := guardOf(&q)
			b.ReportAllocs()
			for b.Loop() {
				if d := g.Decide(context.Background(), op); d.Action != policy.Allow {
					b.Fatalf("%+v", d)
				}
			}
		})
	}
}

// TestHeldWhateverTheRate: an empty bucket makes no refusal of what waits for a
// person anyway; that the client would be told it is held, and nobody would
// ever see it released.
func TestHeldWhateverTheRate(t *testing.T) {
	p := rules(t)
	p.Global = policy.Limit{Requests: 1, Per: time.Hour}
	c := p.Channels["imessage"]
	c.Outbound.Otherwise = policy.Hold
	g := guardOf(p)
	if d := g.Decide(context.Background(), send(t, bob)); d.Action != policy.Allow {
		t.Fatalf("the first: %+v", d.Verdict)
	}
	if d := g.Decide(context.Background(), send(t, "+15559990000")); d.Action != policy.Hold {
		t.Errorf("to be held, with an empty bucket: %+v", d.Verdict)
	}
	if d := g.Decide(context.Background(), send(t, bob)); d.Action != policy.Deny || d.Told.Stage != policy.StageRate {
		t.Errorf("the second: %+v", d.Verdict)
	}
}
