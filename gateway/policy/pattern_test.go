package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPatternMatch(t *testing.T) {
	for _, c := range []struct {
		channel, pattern, canonical string
		yes, no                     []string
	}{
		{"imessage", "+1 (415) 555-1212", "+14155551212", []string{"+14155551212"}, []string{"+14155551213", "14155551212@example.com"}},
		{"imessage", "+1415555*", "+1415555*", []string{"+14155551212", "+14155550000"}, []string{"+14155561212", "+141555@example.com", "+44415555"}},
		{"imessage", "+1 (415) 555-*", "+1415555*", []string{"+14155551212"}, []string{"+14156551212"}},
		{"imessage", "*@Family.Example", "*@family.example", []string{"a@family.example", "A.B@family.example"},
			[]string{"a@x.family.example", "a@notfamily.example", "a@family.example.evil.example", "+15551234567"}},
		{"imessage", "*@*.Family.example", "*@*.family.example", []string{"a@x.family.example", "a@y.x.family.example"},
			[]string{"a@family.example", "a@xfamily.example", "a@family.example.x.example"}},
		{"gmail", "*@bücher.example", "*@xn--bcher-kva.example", []string{"a@bücher.example", "a@xn--bcher-kva.example"}, []string{"a@bucher.example"}},
		{"imessage", "chat:iMessage;+;chat700", "chat:iMessage;+;chat700",
			[]string{"iMessage;+;chat700", "SMS;+;chat700", "any;+;CHAT700"}, []string{"iMessage;+;chat70", "iMessage;+;chat7000", "+700"}},
		{"loopback", "team-*", "team-*", []string{"team-a", "team-"}, []string{"team", "ateam-a"}},
		{"loopback", "Echo", "echo", []string{"echo", "ECHO"}, []string{"echoo"}},
		{"signal", "+49*", "+49*", []string{"+4930123456"}, []string{"user:8c78cd2a-16ff-427d-83dc-1a5e36ce713d"}},
		{"signal", "group:AAAAAAAAAAAAAAAAAAAAAA", "group:AAAAAAAAAAAAAAAAAAAAAA==", []string{"group:AAAAAAAAAAAAAAAAAAAAAA=="}, []string{"group:BAAAAAAAAAAAAAAAAAAAAA=="}},
		{"discord", "channel:1", "channel:1", []string{"channel:1"}, []string{"user:1", "channel:12"}},
	} {
		p, err := ParsePattern(c.channel, c.pattern, "")
		if err != nil || p.String() != c.canonical {
			t.Errorf("ParsePattern(%s, %q) = %q, %v; want %q", c.channel, c.pattern, p, err, c.canonical)
			continue
		}
		if again, err := ParsePattern(c.channel, p.String(), ""); err != nil || again != p {
			t.Errorf("ParsePattern(%s, %q) = %q, %v", c.channel, p, again, err)
		}
		for _, text := range c.yes {
			if !p.Match(mustPeer(t, c.channel, text)) {
				t.Errorf("%s: %q does not match %q", c.channel, p, text)
			}
		}
		for _, text := range c.no {
			if p.Match(mustPeer(t, c.channel, text)) {
				t.Errorf("%s: %q matches %q", c.channel, p, text)
			}
		}
	}
	var zero Pattern
	if zero.Match(Peer{}) || zero.Match(mustPeer(t, "loopback", "echo")) || !zero.IsZero() {
		t.Error("the zero pattern matches somebody")
	}
}

func TestParsePatternRefuses(t *testing.T) {
	for _, c := range []struct{ channel, text, say string }{
		{"imessage", "*", "mode: open"}, {"loopback", "**", "mode: open"},
		{"imessage", "", "empty"}, {"nowhere", "a", "no channel"}, {"nowhere", "a*", "no channel"},
		{"imessage", "+*", "digits"}, {"imessage", "415*", "country code"}, {"imessage", "+1415x*", "phone number"},
		{"imessage", "jane*", "beginning"}, {"imessage", "jane@ex*", "beginning"}, {"imessage", "*example.com", "end"},
		{"imessage", "*@", "domain"}, {"imessage", "*@*", "understood"}, {"imessage", "*@*.", "domain"}, {"imessage", "*@com", "dot"}, {"imessage", "*@*.com", "dot"},
		{"imessage", "*@a.*.example", "understood"}, {"imessage", "*@*.*.example", "understood"}, {"imessage", "*a@example.com", "end"},
		{"imessage", "*@ex\u0430mple.com", "alphabets"}, {"imessage", "+1\u200b4*", "seen"},
		{"imessage", "chat:iMessage;+;*", "beginning"}, {"imessage", "Jane", "contact name"},
		{"imessage", "+1*4*", "end"}, {"loopback", "*@example.com", "no e-mail"}, {"signal", "*@example.com", "no e-mail"},
		{"loopback", ".*", "name"}, {"discord", "channel:1*", "beginning"}, {"signal", "group:A*", "beginning"}, {"gmail", "+1*", "beginning"},
	} {
		p, err := ParsePattern(c.channel, c.text, "US")
		if err == nil || !p.IsZero() {
			t.Errorf("ParsePattern(%s, %q) = %q, %v; want an error", c.channel, c.text, p, err)
		} else if !strings.Contains(err.Error(), c.say) {
			t.Errorf("ParsePattern(%s, %q): %v; want something about %q", c.channel, c.text, err, c.say)
		}
	}
}

// A deny list names a mailbox, not one spelling of its address.
func TestReaches(t *testing.T) {
	for _, c := range []struct {
		pattern, peer string
		want          bool
	}{
		{"bob@gmail.com", "b.o.b+x@googlemail.com", true},
		{"b.ob+news@googlemail.com", "bob@gmail.com", true},
		{"bob@example.com", "bob+x@example.com", true},
		{"bob@example.com", "b.ob@example.com", false},
		{"bob@gmail.com", "bobby@gmail.com", false},
		{"*@gmail.com", "bob@googlemail.com", true},
		{"*@googlemail.com", "bob@gmail.com", true},
		{"*@example.com", "bob@x.example.com", false},
		{"*@*.example.com", "bob+x@a.example.com", true},
	} {
		p, err := ParsePattern("gmail", c.pattern, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Reaches(mustPeer(t, "gmail", c.peer)); got != c.want {
			t.Errorf("%q reaches %q: %t; want %t", c.pattern, c.peer, got, c.want)
		}
	}
	if p := mustPeer(t, "gmail", "b.ob+x@gmail.com"); (Pattern{exact, KindEmail, "bob@gmail.com"}).Match(p) {
		t.Error("an allow list takes another spelling for the one it names")
	}
}

// drawPattern writes patterns that often meet each other.
func drawPattern(t *rapid.T, channel string) Pattern {
	for {
		text := drawText(t)
		switch rapid.IntRange(0, 5).Draw(t, "shape") {
		case 0:
			text += "*"
		case 1:
			text = "+1" + rapid.StringMatching(`[0-9]{0,3}`).Draw(t, "prefix") + "*"
		case 2:
			text = "*@" + rapid.StringMatching(`(\*\.)?([ab]\.){0,2}example`).Draw(t, "domain")
		case 3:
			text = rapid.StringMatching(`[ab]{0,3}`).Draw(t, "name") + "*"
		}
		if p, err := ParsePattern(channel, text, "US"); err == nil {
			return p
		}
	}
}

// near writes a peer that has a fair chance to be meant by the pattern.
func near(t *rapid.T, channel string, p Pattern) Peer {
	text := p.text
	switch p.shape {
	case exact:
		text = p.String()
	case prefix:
		text += rapid.StringMatching(`[0-9]{0,6}`).Draw(t, "rest")
	case domain:
		text = "x@" + text
	case subdomain:
		text = "x@" + rapid.StringMatching(`([ab]\.){0,2}`).Draw(t, "sub") + text
	}
	if q, err := ParsePeer(channel, text, "US"); err == nil {
		return q
	}
	return drawPeer(t, channel)
}

func TestPatternProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		channel := rapid.SampledFrom([]string{"imessage", "loopback", "gmail"}).Draw(t, "channel")
		a, b := drawPattern(t, channel), drawPattern(t, channel)
		if again, err := ParsePattern(channel, a.String(), "US"); err != nil || again != a {
			t.Fatalf("%q is read back as %q, %v", a, again, err)
		}
		if !a.Covers(a) {
			t.Fatalf("%q does not cover itself", a)
		}
		p := near(t, channel, b)
		if a.Covers(b) && b.Match(p) && !a.Match(p) {
			t.Fatalf("%q covers %q, which alone matches %q", a, b, p)
		}
		if a.Match(p) && a.kind != p.Kind() {
			t.Fatalf("%q matches the %s %q", a, p.Kind(), p)
		}
		if a.Match(p) && !a.Reaches(p) {
			t.Fatalf("%q matches %q and does not reach it", a, p)
		}
	})
}

func FuzzParsePattern(f *testing.F) {
	for i, text := range []string{"+1415555*", "*@family.example", "*@*.family.example", "team-*", "chat:iMessage;+;chat700", "*", "a@b.example", "+*", "*@", "é*"} {
		f.Add(uint8(i), text)
	}
	f.Fuzz(func(t *testing.T, channel uint8, text string) {
		names := ChannelNames()
		name := names[int(channel)%len(names)]
		p, err := ParsePattern(name, text, "US")
		if err != nil {
			return
		}
		again, err := ParsePattern(name, p.String(), "US")
		if err != nil || again != p {
			t.Fatalf("ParsePattern(%s, %q) = %q, and of that %q, %v", name, text, p, again, err)
		}
		if !p.Covers(p) || p.IsZero() || p.Match(Peer{}) {
			t.Fatalf("ParsePattern(%s, %q) = %#v", name, text, p)
		}
	})
}
