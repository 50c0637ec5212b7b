package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// everything is a file with every key of interface §4 and §8: testdata/everything.yaml.
func everything(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// lineOf returns the number of the first line that contains text.
func lineOf(t testing.TB, data []byte, text string) int {
	t.Helper()
	for i, line := range strings.Split(string(data), "\n") {
		if strings.Contains(line, text) {
			return i + 1
		}
	}
	t.Fatalf("no line contains %q", text)
	return 0
}

func TestParse(t *testing.T) {
	data := everything(t)
	c, err := Parse("/etc/carapace/config.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) string { return fmt.Sprintf("config.yaml:%d", lineOf(t, data, text)) }

	if want := (Gateway{LogLevel: "debug", RequestTimeout: 45 * time.Second, MaxConnections: 100, MaxMessage: 2 << 20}); c.Gateway != want {
		t.Errorf("gateway: %+v; want %+v", c.Gateway, want)
	}
	if want := (DeadLetters{Retain: 48 * time.Hour, Max: 500, KeepContent: false}); c.DeadLetters != want {
		t.Errorf("dead letters: %+v; want %+v", c.DeadLetters, want)
	}
	if c.Audit.Checkpoint != 10 || !slices.Equal(c.Audit.HashFields, []string{"peers"}) {
		t.Errorf("audit: %+v", c.Audit)
	}
	if !slices.Equal(c.Clients, []string{"alice", "bob"}) || !slices.Equal(c.Policy.Clients, c.Clients) {
		t.Errorf("clients: %q and %q", c.Clients, c.Policy.Clients)
	}
	if c.Policy.Region != "US" || c.Owner["imessage"].String() != "+14155550009" || c.Policy.Owner["imessage"] != c.Owner["imessage"] {
		t.Errorf("region %q, owner %v and %v", c.Policy.Region, c.Owner, c.Policy.Owner)
	}
	q := c.QuietHours
	if q == nil || q != c.Policy.QuietHours || q.From != 22*60 || q.To != 7*60+30 || q.Zone.String() != "Europe/Berlin" || q.Action != policy.Hold || q.Where != at("quiet_hours:") {
		t.Errorf("quiet hours: %+v", q)
	}
	p := c.Policy
	for name, l := range map[string]struct{ got, want policy.Limit }{
		"global":   {p.Global, policy.Limit{Requests: 100, Per: time.Minute, Burst: 100, Where: at("global:")}},
		"default":  {p.Default, policy.Limit{Requests: 20, Per: time.Minute, Burst: 20, Where: at("default:")}},
		"per_peer": {p.PerPeer, policy.Limit{Requests: 5, Per: time.Hour, Burst: 5, Where: at("per_peer:")}},
		"attempts": {p.Attempts, policy.Limit{Requests: 10, Per: time.Second, Burst: 50, Where: at("attempts:")}},
		"imessage": {*p.Channels["imessage"].Limit, policy.Limit{Requests: 7, Per: 30 * time.Second, Burst: 9, Where: at("requests: 7")}},
	} {
		if l.got != l.want {
			t.Errorf("rate %s: %+v; want %+v", name, l.got, l.want)
		}
	}
	var rules []string
	for _, r := range p.Patterns {
		rules = append(rules, fmt.Sprintf("%s %s %s %s %s", r.ID, r.Regexp, r.Direction, r.Action, r.Where))
	}
	if want := []string{
		`ssn \b\d{3}-\d{2}-\d{4}\b outbound deny ` + at("id: ssn"),
		`code (?i)code outbound redact ` + at("id: code"), `code (?i)code inbound redact ` + at("id: code"),
	}; !slices.Equal(rules, want) {
		t.Errorf("content rules:\n%q\nwant\n%q", rules, want)
	}

	if sum := sha256.Sum256(data); p.SHA256 != hex.EncodeToString(sum[:]) || !bytes.Equal(c.Raw, data) {
		t.Errorf("the digest %s is not that of the file", p.SHA256)
	}
	imsg := p.Channels["imessage"]
	show := func(l policy.List) string {
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s %s", l.Mode, l.Otherwise, l.Where)
		for _, e := range l.Allow {
			fmt.Fprintf(&b, " +%s@%s", e.Pattern, e.Where)
		}
		for _, e := range l.Deny {
			fmt.Fprintf(&b, " -%s@%s", e.Pattern, e.Where)
		}
		return b.String()
	}
	if got, want := show(imsg.Outbound), fmt.Sprintf("allowlist hold %s ++14155551212@%s ++1415555*@%s +*@family.example@%s +chat:iMessage;+;chat700@%s -+14155550666@%s",
		at("    outbound:"), at("(415) 555-1212"), at("+1415555*"), at("*@Family"), at("chat700"), at("0666")); got != want {
		t.Errorf("outbound\n%s\nwant\n%s", got, want)
	}
	if got, want := show(imsg.Inbound), "denylist deny "+at("    inbound:"); got != want {
		t.Errorf("inbound %q; want %q", got, want)
	}
	if !imsg.Enabled || imsg.GroupSenders != policy.SendersAny || imsg.Where != at("  imessage:") ||
		!slices.Equal(imsg.AllowCommands, []string{"react"}) || !slices.Equal(imsg.DenyCommands, []string{"chats.list", "gmail send"}) ||
		imsg.AllowWhere != at("allow: [react]") || imsg.DenyWhere != at("deny: [chats.list") {
		t.Errorf("imessage: %+v", imsg)
	}
	want := map[string]*Channel{
		"loopback": {Name: "loopback", Enabled: true, Where: at("  loopback:")},
		"imessage": {Name: "imessage", Enabled: true, Tool: "/usr/local/carapace/tools/imsg/imsg", Where: at("  imessage:")},
		"signal":   {Name: "signal", Tool: "/opt/signal-cli", Account: "+14155551234", Where: at("  signal:")},
		"gmail":    {Name: "gmail", Enabled: true, Tool: "/opt/gog", Account: "me@example.com", Where: at("  gmail:")},
		"discord":  {Name: "discord", Enabled: true, Listen: "127.0.0.1:18822", Upstream: "http://127.0.0.1:8080/api/v10", Where: at("  discord:")},
	}
	if diff := cmp.Diff(want, c.Channels); diff != "" {
		t.Errorf("channels: %s", diff)
	}
	if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], at("    inbound:")+": channels.imessage.inbound has mode denylist") {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

// The smallest configuration: everything has the strictest useful meaning.
func TestParseMinimal(t *testing.T) {
	c, err := Parse("config.yaml", []byte("version: 1\nchannels: {loopback: {}, discord: {enabled: true}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Gateway{"info", 30 * time.Second, 256, 1 << 20}); c.Gateway != want {
		t.Errorf("gateway: %+v", c.Gateway)
	}
	if want := (DeadLetters{720 * time.Hour, 10000, true}); c.DeadLetters != want || c.Audit.Checkpoint != 1000 || c.Audit.HashFields != nil {
		t.Errorf("%+v, %+v", c.DeadLetters, c.Audit)
	}
	p := c.Policy
	if p.Global.Requests != 120 || p.Default.Requests != 30 || p.PerPeer.Requests != 10 || p.Attempts.Burst != 100 || p.Region != "" || len(p.Clients) != 0 {
		t.Errorf("policy: %+v", p)
	}
	l := p.Channels["loopback"]
	if l.Enabled || l.Outbound.Mode != policy.Allowlist || len(l.Outbound.Allow) != 0 || l.Outbound.Otherwise != policy.Deny || l.GroupSenders != policy.SendersAllowed || l.Limit != nil {
		t.Errorf("loopback: %+v", l)
	}
	if d := c.Channels["discord"]; d.Listen != "127.0.0.1:18821" || d.Upstream != "https://discord.com/api/v10" {
		t.Errorf("discord: %+v", d)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "config.yaml:2: channels.loopback has no key enabled") {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

// Each case is one fault in a file that is otherwise right. The file starts
// with "version: 1" in line 1, the case follows in line 2.
func TestParseFaults(t *testing.T) {
	imsg := "channels:\n  imessage:\n    enabled: true\n    tool: /opt/imsg\n" // four lines
	for _, c := range []struct {
		text string
		line int
		want string
	}{
		{"colour: red\n", 2, `unknown key "colour" in the configuration; known are: audit, channels, clients,`},
		{"clients: [alice]\nclients: [bob]\n", 3, "clients stands here a second time, first in line 2"},
		{"version: 1\n", 2, "second time"},
		{"gateway: {loglevel: info}\n", 2, `unknown key "loglevel" in gateway`},
		{"gateway: 7\n", 2, "gateway is a number; it must be keys with values"},
		{"gateway: [a]\n", 2, "gateway is a list"},
		{"gateway:\n", 2, "gateway is empty"},
		{"1: 2\n", 2, "a key of the configuration is a number"},
		{"[a]: 2\n", 2, "a key of the configuration is a list"},
		{"gateway: {log_level: loud}\n", 2, `gateway.log_level is "loud"; it must be one of: debug, info, warn, error`},
		{"gateway: {log_level: [info]}\n", 2, "gateway.log_level is a list"},
		{"gateway: {request_timeout: 30}\n", 2, "not a duration; write a number with its unit"},
		{"gateway: {request_timeout: 30 s}\n", 2, "not a duration"},
		{"gateway: {request_timeout: 1ms}\n", 2, "must be from 1s to 10m0s"},
		{"gateway: {request_timeout: -30s}\n", 2, "must be from"},
		{"gateway: {max_connections: 0}\n", 2, "must be from 1 to 4096"},
		{"gateway: {max_connections: many}\n", 2, "must be a whole number"},
		{"gateway: {max_connections: 1.5}\n", 2, "must be a whole number"},
		{"gateway: {max_connections: 0x10}\n", 2, "must be a whole number"},
		{"gateway: {max_connections: \"16\"}\n", 2, "max_connections is a text"},
		{"gateway: {max_message: 1MB}\n", 2, "not a size"},
		{"gateway: {max_message: 1KiB}\n", 2, "1024 bytes; it must be from"},
		{"gateway: {max_message: 9999999999MiB}\n", 2, "it must be from"},
		{"clients: alice\n", 2, "clients is a text; it must be a list"},
		{"clients: [alice, 501]\n", 2, "a client is a number"},
		{"clients: [\"501\"]\n", 2, "not the name of a user"},
		{"clients: [root]\n", 2, "root cannot be a client"},
		{"clients:\n  - alice\n  - alice\n", 4, "client alice stands here a second time"},
		{"clients: [\"\"]\n", 2, "a client is empty"},
		{"clients: [\"al ice\"]\n", 2, "not the name of a user"},
		{"region: Germany\n", 2, "two-letter country code"},
		{"region: de\n", 2, "two-letter country code"},
		{"region: 49\n", 2, "region is a number"},
		{"quiet_hours: {from: \"22:00\", to: \"07:00\", zone: Europe/Berlin}\n", 2, "quiet_hours.action is missing"},
		{"quiet_hours: {from: \"24:00\", to: \"07:00\", zone: UTC, action: hold}\n", 2, "time of day"},
		{"quiet_hours: {from: \"7:00\", to: \"08:00\", zone: UTC, action: hold}\n", 2, "time of day"},
		{"quiet_hours: {from: \"07:00\", to: \"07:00\", zone: UTC, action: hold}\n", 2, "the same time"},
		{"quiet_hours: {from: \"22:00\", to: \"07:00\", zone: Mars/Olympus, action: hold}\n", 2, `zone "Mars/Olympus" is not known`},
		{"quiet_hours: {from: \"22:00\", to: \"07:00\", zone: ../../etc/passwd, action: hold}\n", 2, "is not known"},
		{"quiet_hours: {from: \"22:00\", to: \"07:00\", zone: Local, action: hold}\n", 2, "is not known"},
		{"quiet_hours: {from: \"22:00\", to: \"07:00\", zone: UTC, action: warn}\n", 2, "one of: deny, hold"},
		{"owner: {imessage: Jane}\n", 2, "contact name"},
		{"owner: {imessage: \"chat:iMessage;+;chat7\"}\n", 2, "the owner is one person"},
		{"owner: {telegram: \"1\"}\n", 2, `unknown key "telegram" in owner`},
		{"owner: {imessage: \"4155551212\"}\n", 2, "no region configured"},
		{"rate: {global: {requests: 10}}\n", 2, "rate.global.per is missing"},
		{"rate: {global: {per: 60s}}\n", 2, "rate.global.requests is missing"},
		{"rate: {global: {requests: 0, per: 60s}}\n", 2, "must be from 1"},
		{"rate: {global: {requests: 1, per: 60s, burst: 0}}\n", 2, "must be from 1"},
		{"rate: {hourly: {requests: 1, per: 1h}}\n", 2, `unknown key "hourly" in rate`},
		{"rate: {global: {requests: 1, per: 744h, burst: 1000}}\n", 2, "more than a year"},
		{"content: {secrets: {outbound: block}}\n", 2, "content.secrets.outbound: block is not supported yet by this version"},
		{"content:\n  secrets: {outbound: off}\n  instructions: {inbound: warn}\n", 4, "content.instructions.inbound: warn is not supported yet by this version"},
		{"content: {secrets: {outbound: never}}\n", 2, "must be one of"},
		{"content: {secrets: {outbound: [off]}}\n", 2, "must be one of"},
		{"content: {secrets: {sideways: off}}\n", 2, `unknown key "sideways"`},
		{"content:\n  patterns:\n    - {id: a, pattern: 'x', action: block}\n    - {id: a, pattern: 'y', action: block}\n", 5, "id a is that of the pattern in line 4 already"},
		{"content: {patterns: [{id: A, pattern: x, action: block}]}\n", 2, "must consist of"},
		{"content: {patterns: [{pattern: x, action: block}]}\n", 2, "id is missing"},
		{"content: {patterns: [{id: a, action: block}]}\n", 2, "pattern is missing"},
		{"content: {patterns: [{id: a, pattern: x}]}\n", 2, "action is missing"},
		{"content: {patterns: [{id: a, pattern: '(', action: block}]}\n", 2, "missing closing )"},
		{"content: {patterns: [{id: a, pattern: '(?=x)', action: block}]}\n", 2, "RE2"},
		{"content: {patterns: [{id: a, pattern: 'x*', action: block}]}\n", 2, "matches the empty text"},
		{"content: {patterns: [{id: a, pattern: '" + strings.Repeat("x", 5000) + "', action: block}]}\n", 2, "longer than 4096"},
		{"content: {patterns: [{id: a, pattern: 'x', action: off}]}\n", 2, "one of: block, hold, redact, warn"},
		{"content: {patterns: [{id: a, pattern: 'x', action: allow}]}\n", 2, "one of: block, hold, redact, warn"},
		{"content: {patterns: [{id: a, pattern: 'x', action: block, direction: up}]}\n", 2, "one of: outbound, inbound, both"},
		{"content: {patterns: [" + strings.Repeat("x,", 0) + "x]}\n", 2, "a content pattern is a text"},
		{"dead_letters: {content: all}\n", 2, "one of: metadata, keep"},
		{"dead_letters: {max: 0}\n", 2, "must be from 1"},
		{"dead_letters: {retain: 10s}\n", 2, "must be from"},
		{"audit: {hash_fields: [body]}\n", 2, "must be one of: peers"},
		{"audit: {hash_fields: peers}\n", 2, "must be a list"},
		{"audit: {checkpoint: 0}\n", 2, "must be from 1"},
		{"channels: {telegram: {enabled: true}}\n", 2, `unknown key "telegram" in channels; known are: discord, gmail, imessage, loopback, signal`},
		{"channels: {loopback: {enabled: yes}}\n", 2, "channels.loopback.enabled is a text; it must be true or false"},
		{"channels: {loopback: {enabled: \"true\"}}\n", 2, "it must be true or false"},
		{"channels: {loopback: }\n", 2, "channels.loopback is empty"},
		{"channels: {loopback: {tool: /bin/x}}\n", 2, `unknown key "tool" in channels.loopback`},
		{"channels: {imessage: {account: a@b.example}}\n", 2, `unknown key "account"`},
		{"channels: {imessage: {enabled: true}}\n", 2, "channels.imessage.tool is missing"},
		{"channels: {imessage: {enabled: false, tool: imsg}}\n", 2, "absolute path"},
		{"channels: {imessage: {enabled: false, tool: /opt/../tmp/imsg}}\n", 2, "absolute path"},
		{"channels: {signal: {enabled: false, account: jane}}\n", 2, "channels.signal.account"},
		{"channels: {signal: {enabled: false, account: \"group:AAAAAAAAAAAAAAAAAAAAAA==\"}}\n", 2, "is a group"},
		{"channels: {discord: {enabled: true, listen: \"0.0.0.0:18821\"}}\n", 2, "address of this machine"},
		{"channels: {discord: {enabled: true, listen: \"localhost:18821\"}}\n", 2, "address of this machine"},
		{"channels: {discord: {enabled: true, listen: \"127.0.0.1:0\"}}\n", 2, "address of this machine"},
		{"channels: {discord: {enabled: true, upstream: \"http://discord.com\"}}\n", 2, "https://"},
		{"channels: {discord: {enabled: true, upstream: \"https://user:pw@discord.com\"}}\n", 2, "must be a URL"},
		{"channels: {discord: {enabled: true, upstream: \"file:///etc/passwd\"}}\n", 2, "must be a URL"},
		{"channels: {discord: {enabled: true, upstream: \"ftp://127.0.0.1/\"}}\n", 2, "https://"},
		{imsg + "    outbound:\n      mode: allow\n", 7, `channels.imessage.outbound.mode is "allow"; it must be one of: allowlist, denylist, open`},
		{imsg + "    outbound:\n      allow:\n        - \"+14155551212\"\n        - Jane\n", 9, `channels.imessage.outbound.allow: "Jane": a contact name`},
		{imsg + "    outbound: {allow: [\"*\"]}\n", 6, "mode: open"},
		{imsg + "    outbound: {allow: [+14155551212]}\n", 6, `is a number; it must be a text: put it in quotes, "+14155551212"`},
		{imsg + "    outbound: {allow: [[a]]}\n", 6, "is a list; it must be a text"},
		{imsg + "    outbound: {allow: [{a: b}]}\n", 6, "is a mapping; it must be a text"},
		{imsg + "    outbound: {allow: }\n", 6, "allow is empty; it must be a list"},
		{imsg + "    outbound: {allow: [\"415-555-1212\"]}\n", 6, "no region configured"},
		{imsg + "    outbound: {deny: [\"+1\u0661\"]}\n", 6, "digit that is not 0 to 9"},
		{imsg + "    outbound: {otherwise: drop}\n", 6, "outbound.otherwise is \"drop\"; it must be one of: deny, hold"},
		{imsg + "    inbound: {otherwise: deny}\n", 6, "inbound.otherwise is \"deny\"; it must be one of: drop, hold"},
		{imsg + "    outbound: [\"+14155551212\"]\n", 6, "outbound is a list; it must be keys with values"},
		{imsg + "    groups: {members: allowed}\n", 6, "groups.members: allowed is not supported yet by this version"},
		{imsg + "    groups: {senders: some}\n", 6, "one of: any, allowed"},
		{imsg + "    rate: {requests: 5}\n", 6, "rate.per is missing"},
		{imsg + "    rate: 5\n", 6, "rate is a number"},
		{imsg + "    commands: {allow: [\"rm -rf\"]}\n", 6, "not the name of a command"},
		{imsg + "    commands: {allow: send}\n", 6, "must be a list"},
		{imsg + "    tool: /opt/other\n", 6, "tool stands here a second time"},
		// What YAML has and a configuration must not have.
		{"clients: &a [alice]\n", 2, "&a is a YAML anchor"},
		{"clients: &a [alice]\naudit: *a\n", 2, "YAML anchor"},
		{"clients: !!seq [alice]\n", 2, "is a YAML tag"},
		{"clients: !exec [alice]\n", 2, "is a YAML tag"},
		{"audit:\n  <<: {checkpoint: 5}\n", 3, "YAML merge key"},
		{imsg + "    outbound: {allow: [*@family.example]}\n", 6, "not valid YAML"},
		{"---\nversion: 1\n", 2, "second document"},
		{"...\n", 2, ""},
		{"clients:\t[alice]\n", 2, "a tab"},
		{"clients: [ali\u200bce]\n", 2, "cannot be seen (U+200B)"},
		{"# \u202e\n", 2, "cannot be seen"},
		{"clients: [\xff]\n", 2, "not valid UTF-8"},
		{"clients: [\x00]\n", 2, "cannot be seen"},
		{"clients: [alice\n", 0, "not valid YAML"},
		// Nothing that a terminal would obey comes out raw.
		{"\"\\e[31m\": 1\n", 2, `unknown key "\x1b[31m"`},
		{"audit: {\"\\e\": 1, \"\\e\": 2}\n", 2, `unknown key "\x1b"`},
		{"content: {patterns: [{id: a, pattern: \"(\\u202e\", action: block}]}\n", 2, `\u202e`},
		{"clients: {{{{\n", 0, "not valid YAML"},
	} {
		_, err := Parse("/etc/carapace/config.yaml", []byte("version: 1\n"+c.text))
		if c.want == "" {
			if err != nil {
				t.Errorf("%q: %v", c.text, err)
			}
			continue
		}
		var fault *Error
		if !errors.As(err, &fault) {
			t.Errorf("%q: %v; want a fault about %q", c.text, err, c.want)
			continue
		}
		if !strings.Contains(fault.Text, c.want) || c.line != 0 && fault.Line != c.line {
			t.Errorf("%.80q: line %d: %s; want line %d: %s", c.text, fault.Line, fault.Text, c.line, c.want)
		}
		if !strings.HasPrefix(err.Error(), fmt.Sprintf("/etc/carapace/config.yaml:%d: ", fault.Line)) {
			t.Errorf("%q: the error does not begin with its place: %v", c.text, err)
		}
	}
	for text, want := range map[string]string{
		"":                 "empty",
		"\n\n":             "empty",
		"# nothing\n":      "empty",
		"null\n":           "empty",
		"~":                "empty",
		"just words\n":     "the configuration is a text",
		"- a\n":            "the configuration is a list",
		"clients: []\n":    "version is missing",
		"version: 2\n":     "version is 2",
		"version: \"1\"\n": "version is a text",
		"version: 1.0\n":   "version is a number",
		"\ufeffversion: 1": "cannot be seen",
		"version: 1\n# " + strings.Repeat("x", MaxSize): "larger than 1 MiB",
	} {
		if _, err := Parse("config.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v; want %q", text, err, want)
		}
	}
}

// All faults are reported at once, in the order of their lines.
func TestParseReportsAll(t *testing.T) {
	_, err := Parse("c.yaml", []byte(`version: 1
channels:
  loopback: {enabled: maybe, outbound: {mode: shut}}
rate: {global: {requests: none, per: 60s}}
region: XX
gateway: {log_level: loud}
`))
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v is not a list of errors", err)
	}
	var lines []int
	for _, e := range joined.Unwrap() {
		var fault *Error
		if !errors.As(e, &fault) {
			t.Fatalf("%v is no *Error", e)
		}
		lines = append(lines, fault.Line)
	}
	if want := []int{3, 3, 4, 5, 6}; !slices.Equal(lines, want) {
		t.Errorf("faults in lines %v; want %v\n%v", lines, want, err)
	}
}

// The region may stand below the numbers that need it.
func TestRegionCountsEverywhere(t *testing.T) {
	c, err := Parse("config.yaml", []byte("version: 1\nowner: {imessage: 415-555-1212}\nregion: US\n"))
	if err != nil || c.Owner["imessage"].String() != "+14155551212" {
		t.Errorf("%v, %v", c, err)
	}
}

// Norway's code is a word that older YAML takes for false.
func TestRegionNorway(t *testing.T) {
	c, err := Parse("config.yaml", []byte("version: 1\nregion: NO\n"))
	if err != nil || c.Policy.Region != "NO" {
		t.Errorf("%v", err)
	}
}

// A large list must not take the time of its square.
func TestParseManyEntries(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 1\nchannels:\n  loopback:\n    enabled: true\n    outbound:\n      allow:\n")
	for i := range maxEntries {
		fmt.Fprintf(&b, "        - \"n%d\"\n", i)
	}
	if c, err := Parse("config.yaml", []byte(b.String())); err != nil || len(c.Policy.Channels["loopback"].Outbound.Allow) != maxEntries {
		t.Fatalf("%v", err)
	}
	b.WriteString("        - one-more\n")
	if _, err := Parse("config.yaml", []byte(b.String())); err == nil || !strings.Contains(err.Error(), "at most 10000") {
		t.Errorf("%v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(everything(f))
	d, err := Default(DefaultOptions{Clients: []string{"alice"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d)
	for _, text := range []string{"", "version: 1\n", "version: 1\nclients: [alice]\nclients: []\n", "a: &a [*a]\n", "{{{{", "? [a]\n: b\n", "version: 1\n---\n", "version: 1\ncontent: {patterns: [{id: a, pattern: x, action: warn}]}\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("/x/config.yaml", data)
		if err != nil {
			if c != nil {
				t.Fatal("a configuration besides an error")
			}
			line := 0
			for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
				var fault *Error
				if !errors.As(e, &fault) || fault.Line < line || fault.Line < 1 || fault.Text == "" || strings.ContainsFunc(fault.Text, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Fatalf("a fault without its place or in a wrong order, or with a raw line end: %q", err)
				}
				line = fault.Line
			}
			return
		}
		if c.Policy == nil || c.Policy.Global.Capacity() == 0 || c.Policy.PerPeer.Capacity() == 0 || c.Gateway.RequestTimeout <= 0 {
			t.Fatalf("%+v", c)
		}
		for name, ch := range c.Channels {
			p := c.Policy.Channels[name]
			if p == nil || p.Enabled != ch.Enabled || !strings.HasPrefix(p.Where, "config.yaml:") {
				t.Fatalf("channel %s: %+v and %+v", name, ch, p)
			}
			for _, l := range []policy.List{p.Outbound, p.Inbound} {
				for _, e := range slices.Concat(l.Allow, l.Deny) {
					if e.Pattern.IsZero() || !strings.HasPrefix(e.Where, "config.yaml:") {
						t.Fatalf("entry %+v", e)
					}
				}
			}
		}
		again, err := Parse("/x/config.yaml", c.Raw)
		if err != nil || len(policy.Wider(c.Policy, again.Policy)) > 0 || again.Policy.SHA256 != c.Policy.SHA256 {
			t.Fatalf("read twice, it differs: %v, %q", err, policy.Wider(c.Policy, again.Policy))
		}
	})
}
