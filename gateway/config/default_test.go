package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

func mustDefault(t testing.TB, o DefaultOptions) *Config {
	t.Helper()
	data, err := Default(o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("/etc/carapace/config.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func listed(entries []policy.Entry) []string {
	var texts []string
	for _, e := range entries {
		texts = append(texts, e.Pattern.String())
	}
	return texts
}

// An installation without a word about channels has the embedded messenger,
// with echo, and nothing else.
func TestDefaultLoopback(t *testing.T) {
	c := mustDefault(t, DefaultOptions{Clients: []string{"alice"}})
	l := c.Policy.Channels["loopback"]
	if len(c.Channels) != 1 || l == nil || !l.Enabled || !slices.Equal(listed(l.Outbound.Allow), []string{"echo"}) || !slices.Equal(listed(l.Inbound.Allow), []string{"echo"}) {
		t.Errorf("channels %v, loopback %+v", c.Channels, l)
	}
	if !slices.Equal(c.Clients, []string{"alice"}) || c.Policy.Region != "" || len(c.Warnings) != 0 {
		t.Errorf("%+v", c)
	}
	// What the file says aloud is what an absent key means.
	minimal, err := Parse("config.yaml", []byte("version: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Gateway != minimal.Gateway || c.DeadLetters != minimal.DeadLetters || c.Audit.Checkpoint != minimal.Audit.Checkpoint || len(c.Audit.HashFields) != 0 {
		t.Errorf("%+v %+v %+v; absent keys mean %+v %+v %+v", c.Gateway, c.DeadLetters, c.Audit, minimal.Gateway, minimal.DeadLetters, minimal.Audit)
	}
	for name, pair := range map[string][2]policy.Limit{
		"global": {c.Policy.Global, minimal.Policy.Global}, "default": {c.Policy.Default, minimal.Policy.Default},
		"per_peer": {c.Policy.PerPeer, minimal.Policy.PerPeer}, "attempts": {c.Policy.Attempts, minimal.Policy.Attempts},
	} {
		pair[0].Where = ""
		if pair[0] != pair[1] {
			t.Errorf("rate %s: %+v; absent: %+v", name, pair[0], pair[1])
		}
	}
	off := mustDefault(t, DefaultOptions{Channels: []DefaultChannel{{Name: "loopback"}}})
	if off.Policy.Channels["loopback"].Enabled {
		t.Error("loopback is enabled although it was turned off")
	}
	none := mustDefault(t, DefaultOptions{Channels: []DefaultChannel{{Name: "loopback", Enabled: true}}, AllowOutbound: map[string][]string{"loopback": {}}})
	if got := none.Policy.Channels["loopback"].Outbound.Allow; len(got) != 0 {
		t.Errorf("an empty list became %v", listed(got))
	}
}

func TestDefaultChannels(t *testing.T) {
	o := DefaultOptions{
		Clients: []string{"alice", "Bob.B"}, Region: "NO",
		Channels: []DefaultChannel{
			{Name: "gmail", Enabled: true, Tool: "/usr/local/carapace/tools/gog/gog", Account: "me@example.com"},
			{Name: "imessage", Enabled: true, Tool: `/opt/a "b": #c/æ/imsg`},
			{Name: "discord", Enabled: true, Listen: "127.0.0.1:18900", Upstream: "http://127.0.0.1:1/api"},
			{Name: "signal", Tool: "/opt/signal-cli", Account: "+14155551234"},
		},
		AllowOutbound: map[string][]string{"imessage": {"+47 22 12 34 56", "*@family.example", "chat:iMessage;+;chat700"}, "signal": {"+1415*"}},
		AllowInbound:  map[string][]string{"imessage": {"+4722123456"}},
	}
	c := mustDefault(t, o)
	for _, want := range o.Channels {
		got := c.Channels[want.Name]
		if got == nil || got.Enabled != want.Enabled || got.Tool != want.Tool || got.Account != want.Account || want.Listen != "" && (got.Listen != want.Listen || got.Upstream != want.Upstream) {
			t.Errorf("%+v became %+v", want, got)
		}
	}
	if c.Policy.Region != "NO" || !slices.Equal(c.Clients, o.Clients) || !c.Channels["loopback"].Enabled {
		t.Errorf("%+v", c)
	}
	imsg := c.Policy.Channels["imessage"]
	if got := listed(imsg.Outbound.Allow); !slices.Equal(got, []string{"+4722123456", "*@family.example", "chat:iMessage;+;chat700"}) {
		t.Errorf("outbound %q", got)
	}
	if got := listed(imsg.Inbound.Allow); !slices.Equal(got, []string{"+4722123456"}) {
		t.Errorf("inbound %q", got)
	}
	// Each entry has a line of its own, which a verdict can cite.
	lines := map[string]bool{}
	for _, e := range slices.Concat(imsg.Outbound.Allow, imsg.Inbound.Allow) {
		lines[e.Where] = true
	}
	if len(lines) != 4 {
		t.Errorf("the entries stand in %v", lines)
	}
}

// Defect i of the original: its sample configuration shipped with an open
// inbound side. Ours has allow lists only, whatever the installer is told.
func TestOriginDefectI_DefaultIsNeverOpen(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := DefaultOptions{AllowOutbound: map[string][]string{}, AllowInbound: map[string][]string{}}
		o.Region = rapid.SampledFrom([]string{"", "US", "DE"}).Draw(rt, "region")
		o.Clients = rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9]{0,8}`), 0, 3, rapid.ID).Draw(rt, "clients")
		if slices.Contains(o.Clients, "root") {
			return
		}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(policy.ChannelNames()), 0, 5, rapid.ID).Draw(rt, "channels") {
			ch := DefaultChannel{Name: name, Enabled: rapid.Bool().Draw(rt, "enabled")}
			if hasTool[name] {
				ch.Tool = "/opt/" + rapid.StringMatching(`[ -.0-~é]{1,10}`).Draw(rt, "tool")
			}
			o.Channels = append(o.Channels, ch)
			pool := map[string][]string{"loopback": {"echo", "team-*"}, "imessage": {"+14155551212", "*@a.example"}, "signal": {"+1415*"}, "discord": {"channel:1"}, "gmail": {"a@b.example"}}[name]
			o.AllowOutbound[name] = rapid.SliceOfN(rapid.SampledFrom(pool), 0, 3).Draw(rt, "outbound")
			o.AllowInbound[name] = rapid.SliceOfN(rapid.SampledFrom(pool), 0, 3).Draw(rt, "inbound")
		}
		data, err := Default(o)
		if err != nil {
			if strings.Contains(err.Error(), "absolute path") {
				return // "/opt/." or a trailing slash
			}
			rt.Fatal(err)
		}
		if strings.Contains(string(data), "open") && !strings.Contains(fmt.Sprint(o), "open") {
			rt.Fatalf("the word open in\n%s", data)
		}
		c, err := Parse("config.yaml", data)
		if err != nil {
			rt.Fatal(err)
		}
		if !slices.Equal(c.Clients, o.Clients) || c.Policy.Region != o.Region {
			rt.Fatalf("%+v became %+v", o, c)
		}
		for _, want := range o.Channels {
			got, p := c.Channels[want.Name], c.Policy.Channels[want.Name]
			if got.Enabled != want.Enabled || got.Tool != want.Tool {
				rt.Fatalf("%+v became %+v", want, got)
			}
			for dir, l := range map[string]policy.List{"outbound": p.Outbound, "inbound": p.Inbound} {
				wanted := o.AllowOutbound[want.Name]
				if dir == "inbound" {
					wanted = o.AllowInbound[want.Name]
				}
				if l.Mode != policy.Allowlist || l.Otherwise != policy.Deny || len(l.Deny) != 0 || !slices.Equal(listed(l.Allow), wanted) && len(wanted) > 0 {
					rt.Fatalf("%s %s: %+v; want %q", want.Name, dir, l, wanted)
				}
			}
		}
	})
}

func TestDefaultRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		o    DefaultOptions
		want string
	}{
		"client":            {DefaultOptions{Clients: []string{"root"}}, "root cannot be a client"},
		"client twice":      {DefaultOptions{Clients: []string{"a", "a"}}, "second time"},
		"newline":           {DefaultOptions{Clients: []string{"a\nb: c"}}, "not the name of a user"},
		"region":            {DefaultOptions{Region: "us"}, "region"},
		"channel":           {DefaultOptions{Channels: []DefaultChannel{{Name: "telegram", Enabled: true}}}, "telegram"},
		"channel, off":      {DefaultOptions{Channels: []DefaultChannel{{Name: "telegram"}}}, "telegram"},
		"channel twice":     {DefaultOptions{Channels: []DefaultChannel{{Name: "discord"}, {Name: "discord", Enabled: true}}}, "second time"},
		"no tool":           {DefaultOptions{Channels: []DefaultChannel{{Name: "imessage", Enabled: true}}}, "tool is missing"},
		"tool":              {DefaultOptions{Channels: []DefaultChannel{{Name: "loopback", Tool: "/x"}}}, "unknown key"},
		"entry":             {DefaultOptions{Channels: []DefaultChannel{{Name: "imessage", Enabled: true, Tool: "/x"}}, AllowOutbound: map[string][]string{"imessage": {"Jane"}}}, "contact name"},
		"orphan":            {DefaultOptions{AllowInbound: map[string][]string{"signal": {"+14155551212"}}}, "not among the channels"},
		"number, no region": {DefaultOptions{Channels: []DefaultChannel{{Name: "signal", Tool: "/x"}}, AllowInbound: map[string][]string{"signal": {"4155551212"}}}, "no region"},
	} {
		if data, err := Default(c.o); err == nil || data != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
