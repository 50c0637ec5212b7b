package policy

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// base is a policy with something of everything.
func base(t testing.TB) *Policy {
	limit := Limit{Requests: 10, Per: time.Minute}
	night := &QuietHours{From: 22 * 60, To: 7 * 60, Zone: time.UTC, Action: Deny}
	return &Policy{
		Region: "US", Clients: []string{"alice"}, Owner: map[string]Peer{"imessage": mustPeer(t, "imessage", "+15550009999")},
		Global: limit, Default: limit, PerPeer: limit, Attempts: limit, QuietHours: night,
		Patterns: []ContentPattern{{ID: "ssn", Regexp: regexp.MustCompile(`\d{3}-\d{2}-\d{4}`), Action: Hold}},
		Channels: map[string]*ChannelPolicy{
			"imessage": {Enabled: true, Outbound: list(t, Allowlist, []string{"+1415555*", "*@family.example"}, []string{"+14155550666"}),
				Inbound: list(t, Allowlist, []string{"+14155551212"}, nil), AllowCommands: []string{"react"}, DenyCommands: []string{"chats"}},
			"signal": {},
		},
	}
}

func TestWider(t *testing.T) {
	imessage := func(p *Policy) *ChannelPolicy { return p.Channels["imessage"] }
	for name, c := range map[string]struct {
		change func(*Policy)
		want   string // part of the one line; empty: not wider
	}{
		"nothing":                     {func(*Policy) {}, ""},
		"client added":                {func(p *Policy) { p.Clients = append(p.Clients, "bob") }, "client bob"},
		"client removed":              {func(p *Policy) { p.Clients = nil }, ""},
		"region changed":              {func(p *Policy) { p.Region = "DE" }, "region"},
		"owner changed":               {func(p *Policy) { p.Owner = map[string]Peer{"imessage": mustPeer(t, "imessage", "+123")} }, "+123 may answer"},
		"owner removed":               {func(p *Policy) { p.Owner = nil }, ""},
		"global raised":               {func(p *Policy) { p.Global.Requests = 11 }, "all channels"},
		"global lowered":              {func(p *Policy) { p.Global.Requests = 9 }, ""},
		"peer limit faster":           {func(p *Policy) { p.PerPeer.Per = 59 * time.Second }, "each peer"},
		"burst raised":                {func(p *Policy) { p.Attempts.Burst = 11 }, "attempts"},
		"more at once, but slower":    {func(p *Policy) { p.Global = Limit{Requests: 20, Per: time.Hour} }, "all channels"},
		"default raised":              {func(p *Policy) { p.Default.Requests = 11 }, "channel imessage"},
		"own limit above the default": {func(p *Policy) { imessage(p).Limit = &Limit{Requests: 20, Per: time.Minute} }, "channel imessage"},
		"own limit below the default": {func(p *Policy) { imessage(p).Limit = &Limit{Requests: 2, Per: time.Minute} }, ""},
		"rule removed":                {func(p *Policy) { p.Patterns = nil }, "ssn"},
		"rule weaker":                 {func(p *Policy) { p.Patterns[0].Action = Warn }, "ssn"},
		"rule stricter":               {func(p *Policy) { p.Patterns[0].Action = Deny }, ""},
		"rule changed":                {func(p *Policy) { p.Patterns[0].Regexp = regexp.MustCompile("x") }, "ssn"},
		"rule in the other direction": {func(p *Policy) { p.Patterns[0].Direction = Inbound }, "ssn"},
		"rule renamed":                {func(p *Policy) { p.Patterns[0].ID = "other" }, ""},
		"quiet hours removed":         {func(p *Policy) { p.QuietHours = nil }, "quiet hours"},
		"quiet hours shorter":         {func(p *Policy) { p.QuietHours.To-- }, "quiet hours"},
		"quiet hours later":           {func(p *Policy) { p.QuietHours.From++; p.QuietHours.To++ }, "quiet hours"},
		"quiet hours longer":          {func(p *Policy) { p.QuietHours.From-- }, ""},
		"quiet hours elsewhere":       {func(p *Policy) { p.QuietHours.Zone = time.FixedZone("X", 3600) }, "quiet hours"},
		"quiet hours milder":          {func(p *Policy) { p.QuietHours.Action = Hold }, "quiet hours"},
		"channel disabled":            {func(p *Policy) { imessage(p).Enabled = false }, ""},
		"channel removed":             {func(p *Policy) { delete(p.Channels, "imessage") }, ""},
		"allowed peer added":          {func(p *Policy) { imessage(p).Outbound = list(t, Allowlist, []string{"+123"}, []string{"+14155550666"}) }, "outbound: +123 may be written to"},
		"allowed peer covered":        {func(p *Policy) { imessage(p).Outbound.Allow = list(t, 0, []string{"+14155551*"}, nil).Allow }, ""},
		"allowed prefix widened":      {func(p *Policy) { imessage(p).Outbound.Allow = list(t, 0, []string{"+141555*"}, nil).Allow }, "+141555*"},
		"subdomains are not covered":  {func(p *Policy) { imessage(p).Outbound.Allow = list(t, 0, []string{"*@*.family.example"}, nil).Allow }, "*@*.family.example"},
		"heard peer added":            {func(p *Policy) { imessage(p).Inbound.Allow = list(t, 0, []string{"a@b.example"}, nil).Allow }, "inbound: a@b.example may be heard"},
		"deny removed":                {func(p *Policy) { imessage(p).Outbound.Deny = nil }, "+14155550666 is no longer"},
		"deny covered":                {func(p *Policy) { imessage(p).Outbound.Deny = list(t, 0, nil, []string{"+14155550*"}).Deny }, ""},
		"denylist":                    {func(p *Policy) { imessage(p).Outbound.Mode = Denylist }, "mode denylist"},
		"open":                        {func(p *Policy) { imessage(p).Inbound.Mode = Open }, "mode open"},
		"no mode":                     {func(p *Policy) { imessage(p).Inbound.Mode = 9 }, ""},
		"held instead of denied":      {func(p *Policy) { imessage(p).Outbound.Otherwise = Hold }, "held"},
		"senders":                     {func(p *Policy) { imessage(p).GroupSenders = SendersAny }, "permitted group"},
		"command allowed":             {func(p *Policy) { imessage(p).AllowCommands = []string{"react", "edit"} }, "command edit is permitted"},
		"command no longer denied":    {func(p *Policy) { imessage(p).DenyCommands = nil }, "command chats is no longer denied"},
		"command denied":              {func(p *Policy) { imessage(p).DenyCommands = []string{"chats", "send"} }, ""},
		"command allowed in vain":     {func(p *Policy) { imessage(p).AllowCommands = []string{"chats"} }, ""},
		"channel added, off":          {func(p *Policy) { p.Channels["gmail"] = &ChannelPolicy{Outbound: list(t, Open, nil, nil)} }, ""},
	} {
		now := base(t)
		c.change(now)
		got := Wider(base(t), now)
		switch {
		case c.want == "" && len(got) != 0:
			t.Errorf("%s: counts as wider: %q", name, got)
		case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
			t.Errorf("%s: %q; want one line with %q", name, got, c.want)
		}
	}
}

func TestWiderThanNothing(t *testing.T) {
	for _, old := range []*Policy{nil, {}} {
		all := strings.Join(Wider(old, base(t)), "\n")
		for _, want := range []string{"client alice", "region", "+15550009999", "all channels", "each peer", "attempts", "channel imessage is enabled",
			"+1415555* may be written to", "+14155551212 may be heard", "command react"} {
			if !strings.Contains(all, want) {
				t.Errorf("%q is missing in:\n%s", want, all)
			}
		}
		if strings.Contains(all, "signal") {
			t.Errorf("a channel that is off is said to be wider:\n%s", all)
		}
	}
	if got := Wider(base(t), nil); len(got) != 0 {
		t.Errorf("no policy is wider: %q", got)
	}
	one := &Policy{Channels: map[string]*ChannelPolicy{"signal": {Enabled: true}}}
	if got := Wider(base(t), one); len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), "channel signal is enabled") {
		t.Errorf("an enabled channel is not wider: %q", got)
	}
}

func drawList(t *rapid.T, pool []Pattern) List {
	pick := func(label string) []Entry {
		var all []Entry
		for _, p := range rapid.SliceOfN(rapid.SampledFrom(pool), 0, 3).Draw(t, label) {
			all = append(all, Entry{p, label})
		}
		return all
	}
	return List{
		Mode:      Mode(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3}).Draw(t, "mode")),
		Allow:     pick("allow"),
		Deny:      pick("deny"),
		Otherwise: Action(rapid.IntRange(0, 1).Draw(t, "otherwise")),
	}
}

// The promise of Wider: when it says nothing, no peer gets further than
// before.
func TestWiderMissesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := []Pattern{drawPattern(t, "gmail"), drawPattern(t, "gmail"), drawPattern(t, "gmail"), {exact, KindEmail, "bob@gmail.com"}, {domain, KindEmail, "gmail.com"},
			{exact, KindEmail, "b.ob@googlemail.com"}, {domain, KindEmail, "googlemail.com"}, {subdomain, KindEmail, "example"}, {domain, KindEmail, "a.example"}}
		draw := func() *Policy {
			return &Policy{Channels: map[string]*ChannelPolicy{"gmail": {
				Enabled:  rapid.Float64().Draw(t, "enabled") < 0.8,
				Outbound: drawList(t, pool), Inbound: drawList(t, pool),
			}}}
		}
		before, now := draw(), draw()
		if len(Wider(before, now)) > 0 {
			return
		}
		judge := func(p *Policy, list func(*ChannelPolicy) *List, peer Peer) Action {
			c := p.Channels["gmail"]
			if !c.Enabled {
				return Deny
			}
			a, _ := list(c).Judge(peer)
			return a
		}
		for _, pattern := range pool {
			for _, text := range []string{near(t, "gmail", pattern).String(), "x@gmail.com", "b.ob@gmail.com", "bob+x@googlemail.com", "x@a.example"} {
				peer, err := ParsePeer("gmail", text, "")
				if err != nil {
					t.Fatal(err)
				}
				for name, list := range map[string]func(*ChannelPolicy) *List{
					"outbound": func(c *ChannelPolicy) *List { return &c.Outbound },
					"inbound":  func(c *ChannelPolicy) *List { return &c.Inbound },
				} {
					if was, is := judge(before, list, peer), judge(now, list, peer); is > was {
						t.Fatalf("%s: %q was %s and is %s, and Wider says nothing\nbefore %+v\nnow %+v", name, peer, was, is, before.Channels["gmail"], now.Channels["gmail"])
					}
				}
			}
		}
	})
}

// Every minute that a policy with a stricter word for it keeps quiet.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minute := rapid.IntRange(0, 24*60-1)
		q := &QuietHours{From: minute.Draw(t, "from"), To: minute.Draw(t, "to"), Zone: time.UTC}
		o := &QuietHours{From: minute.Draw(t, "other from"), To: minute.Draw(t, "other to"), Zone: time.UTC}
		if q.From == q.To || o.From == o.To {
			return
		}
		want := true
		for m := range 24 * 60 {
			at := time.Date(2026, 1, 2, m/60, m%60, 0, 0, time.UTC)
			inner, _ := o.Quiet(at)
			outer, _ := q.Quiet(at)
			want = want && (outer || !inner)
		}
		if got := q.spans(o); got != want {
			t.Fatalf("%d-%d spans %d-%d: %t; want %t", q.From, q.To, o.From, o.To, got, want)
		}
	})
}

func TestChannelNames(t *testing.T) {
	want := slices.Sorted(maps.Keys(channelKinds))
	if got := slices.Sorted(maps.Keys(grammars)); !slices.Equal(got, want) {
		t.Errorf("grammars of %q, kinds of %q", got, want)
	}
	if got := slices.Sorted(slices.Values(ChannelNames())); !slices.Equal(got, want) {
		t.Errorf("channels %q; want %q", got, want)
	}
}
