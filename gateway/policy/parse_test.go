package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestParsePeer(t *testing.T) {
	for _, c := range []struct{ channel, text, region, want string }{
		{"loopback", "echo", "", "echo"},
		{"loopback", "Team-7.b_c", "", "team-7.b_c"},
		{"loopback", VerifyOK, "", VerifyOK},
		{"imessage", "+15551234567", "", "+15551234567"},
		{"imessage", "+1 (415) 555-1212", "", "+14155551212"},
		{"imessage", "415-555-1212", "US", "+14155551212"},
		{"imessage", "4155551212", "US", "+14155551212"},
		{"imessage", "030 123456", "DE", "+4930123456"},
		{"imessage", "+44 (0)20 7946 0958", "", "+442079460958"},
		{"imessage", "011 44 20 7946 0958", "US", "+442079460958"},
		{"imessage", "+39 06 698 1234", "", "+39066981234"}, // the zero belongs to the number in Italy
		{"imessage", "+123", "", "+123"},
		{"imessage", "+999123", "", "+999123"},
		{"imessage", "Jane@Example.com", "", "jane@example.com"},
		{"imessage", "o'brien+x@mail.example.org", "", "o'brien+x@mail.example.org"},
		{"imessage", "a@BÜCHER.example", "", "a@xn--bcher-kva.example"},
		{"imessage", "a@xn--bcher-kva.example", "", "a@xn--bcher-kva.example"},
		{"imessage", "a@日本語ドメイン.example", "", "a@xn--eckwd4c7c5976acvb2w6i.example"},
		{"imessage", "iMessage;-;+14155551212", "", "+14155551212"},
		{"imessage", "SMS;-;415-555-1212", "US", "+14155551212"},
		{"imessage", "chat:any;-;Jane@Example.com", "", "jane@example.com"},
		{"imessage", "iMessage;+;chat700", "", "chat:iMessage;+;chat700"},
		{"imessage", "chat:SMS;+;chat700", "", "chat:SMS;+;chat700"},
		{"signal", "+1 555 123 4567", "", "+15551234567"},
		{"signal", "8C78CD2A-16FF-427D-83DC-1A5E36CE713D", "", "user:8c78cd2a-16ff-427d-83dc-1a5e36ce713d"},
		{"signal", "user:8c78cd2a-16ff-427d-83dc-1a5e36ce713d", "", "user:8c78cd2a-16ff-427d-83dc-1a5e36ce713d"},
		{"signal", "group:AAAAAAAAAAAAAAAAAAAAAA==", "", "group:AAAAAAAAAAAAAAAAAAAAAA=="},
		{"signal", "group:AAAAAAAAAAAAAAAAAAAAAA", "", "group:AAAAAAAAAAAAAAAAAAAAAA=="},
		{"signal", "group:AAAAAAAAAAAAAAAAAAAAAB==", "", "group:AAAAAAAAAAAAAAAAAAAAAA=="}, // unused bits
		{"discord", "channel:1234567890123456789", "", "channel:1234567890123456789"},
		{"discord", "user:42", "", "user:42"},
		{"gmail", "Me@Example.COM", "", "me@example.com"},
	} {
		p, err := ParsePeer(c.channel, c.text, c.region)
		if err != nil || p.String() != c.want {
			t.Errorf("ParsePeer(%s, %q, %q) = %q, %v; want %q", c.channel, c.text, c.region, p, err, c.want)
		}
		again, err := ParsePeer(c.channel, p.String(), c.region)
		if err != nil || again != p {
			t.Errorf("ParsePeer(%s, %q) = %q, %v: not the same again", c.channel, p, again, err)
		}
	}
}

func TestParsePeerRefuses(t *testing.T) {
	for _, c := range []struct{ channel, text, region string }{
		{"", "echo", ""}, {"nowhere", "echo", ""}, {"Loopback", "echo", ""},
		{"loopback", "", ""}, {"loopback", ".a", ""}, {"loopback", "-a", ""}, {"loopback", "a b", ""}, {"loopback", "écho", ""},
		{"loopback", strings.Repeat("a", 65), ""}, {"loopback", "\u212Aate", ""}, {"loopback", "a*", ""}, {"loopback", "echo\n", ""},
		{"imessage", "Jane", ""}, {"imessage", "Jane Doe", "US"}, {"imessage", "chat123", ""}, {"imessage", "42;", ""},
		{"imessage", "imessage:+15551234567", ""}, {"imessage", "sms:+15551234567", ""}, {"imessage", "tel:+15551234567", ""},
		{"imessage", "4155551212", ""}, {"imessage", "4155551212", "XX"}, {"imessage", "911", "US"}, {"imessage", "5551212", "US"},
		{"imessage", "+", ""}, {"imessage", "+12", ""}, {"imessage", "+1234567890123456", ""}, {"imessage", "++15551234567", ""},
		{"imessage", "+1555+1234567", ""}, {"imessage", "15551234567+", "US"}, {"imessage", "+1555123456x", ""}, {"imessage", "+1 555 123 4567 ext 8", ""},
		{"imessage", "+1\u200b5551234567", ""}, {"imessage", "\u202a+15551234567\u202c", ""}, {"imessage", "+1٥551234567", ""},
		{"imessage", "＋15551234567", ""}, {"imessage", "+1\u00a0555 1234567", ""}, {"imessage", "+1555\x001234567", ""}, {"imessage", "+1555\t1234567", ""},
		{"imessage", "a@b", ""}, {"imessage", "@example.com", ""}, {"imessage", "a@", ""}, {"imessage", "a@b@example.com", ""},
		{"imessage", "a b@example.com", ""}, {"imessage", " a@example.com", ""}, {"imessage", `"a"@example.com`, ""}, {"imessage", "a(c)@example.com", ""},
		{"imessage", "Jane <a@example.com>", ""}, {"imessage", "-a@example.com", ""}, {"imessage", ".a@example.com", ""}, {"imessage", "a..b@example.com", ""},
		{"imessage", "а@example.com", ""}, // Cyrillic
		{"imessage", "a@ex\u0430mple.com", ""}, {"imessage", "a@xn--exmple-4nf.com", ""}, {"imessage", "a@ex\u200bample.com", ""},
		{"imessage", "a@ｅxample.com", ""}, {"imessage", "a@example。com", ""}, {"imessage", "a@example.com.", ""}, {"imessage", "a@.example.com", ""},
		{"imessage", "a@exa_mple.com", ""}, {"imessage", "a@[127.0.0.1]", ""}, {"imessage", "a@127.0.0.1", ""}, {"imessage", "a@-x.com", ""}, {"imessage", "a@x-.com", ""},
		{"imessage", "a@" + strings.Repeat("x", 64) + ".com", ""}, {"imessage", strings.Repeat("a", 65) + "@example.com", ""},
		{"imessage", "a@xn--0.com", ""}, {"imessage", "a*@example.com", ""}, {"imessage", "a@*.example.com", ""},
		{"imessage", "iMessage;+;", ""}, {"imessage", "iMessage;+;a;b", ""}, {"imessage", "iMessage;*;chat1", ""}, {"imessage", "imessage;+;chat1", ""},
		{"imessage", "iMessage;-;Jane", ""}, {"imessage", "any;-;chat700", ""}, {"imessage", "iMessage;-;iMessage;-;+15551234567", ""},
		{"imessage", "chat:chat700", ""}, {"imessage", "chat:", ""}, {"imessage", "chat:+15551234567", ""}, {"imessage", "chat:iMessage;+;chat 7", ""},
		{"imessage", "group:AAAAAAAAAAAAAAAAAAAAAA==", ""}, {"imessage", "user:1", ""},
		{"imessage", "\xff", ""}, {"imessage", strings.Repeat("1", 600), "US"},
		{"signal", "PNI:8c78cd2a-16ff-427d-83dc-1a5e36ce713d", ""}, {"signal", "user:jane", ""}, {"signal", "u:jane.42", ""}, {"signal", "jane.42", ""},
		{"signal", "a@example.com", ""}, {"signal", "group:AAAA", ""}, {"signal", "group:", ""}, {"signal", "group:AAAAAAAAAAAAAAAAAAAA_w==", ""},
		{"signal", "user:8c78cd2a-16ff-427d-83dc-1a5e36ce713", ""}, {"signal", "8c78cd2ax16ff-427d-83dc-1a5e36ce713d", ""},
		{"discord", "1234", ""}, {"discord", "channel:", ""}, {"discord", "channel:007", ""}, {"discord", "channel:0", ""}, {"discord", "user:-1", ""},
		{"discord", "user:+1", ""}, {"discord", "Channel:1", ""}, {"discord", "channel:99999999999999999999", ""}, {"discord", "channel:1_0", ""},
		{"gmail", "+15551234567", ""}, {"gmail", "me", ""},
	} {
		if p, err := ParsePeer(c.channel, c.text, c.region); err == nil {
			t.Errorf("ParsePeer(%s, %q, %q) = %q; want an error", c.channel, c.text, c.region, p)
		} else if strings.ContainsAny(c.text, "@5") && c.channel != "signal" && strings.Contains(err.Error(), c.text) {
			t.Errorf("ParsePeer(%s, %q): the error repeats the text: %v", c.channel, c.text, err)
		} else if !p.IsZero() {
			t.Errorf("ParsePeer(%s, %q) = %q besides the error %v", c.channel, c.text, p, err)
		}
	}
}

// The two errors that a channel must tell apart.
func TestParsePeerErrors(t *testing.T) {
	if _, err := ParsePeer("imessage", "4155551212", ""); !errors.Is(err, ErrNoRegion) {
		t.Errorf("a number without region: %v; want ErrNoRegion", err)
	}
	if _, err := ParsePeer("imessage", "Jane", ""); !errors.Is(err, ErrContactName) {
		t.Errorf("a contact name: %v; want ErrContactName", err)
	}
}

// Defect h of the original: its identifiers were only trimmed and lower-cased,
// so that one person's number, written in two ways, was two recipients.
func TestOriginDefectH_OneNumberIsOnePeer(t *testing.T) {
	want, err := ParsePeer("imessage", "+19703161639", "US")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"+1 (970) 316-1639", "(970) 316-1639", "9703161639", "1-970-316-1639", "+1.970.316.1639", "iMessage;-;+19703161639"} {
		if p, err := ParsePeer("imessage", text, "US"); err != nil || p != want {
			t.Errorf("%q is %q, %v; want %q", text, p, err, want)
		}
		pattern, err := ParsePattern("imessage", text, "US")
		if err != nil || !pattern.Match(want) {
			t.Errorf("an entry %q does not mean %q (%v)", text, want, err)
		}
	}
}

func TestPeerHidesItself(t *testing.T) {
	p := mustPeer(t, "imessage", "+15551234567")
	if s := p.LogValue().String(); strings.Contains(s, "555") {
		t.Errorf("a log would show %q", s)
	}
	if text, err := p.MarshalText(); err != nil || string(text) != "+15551234567" {
		t.Errorf("MarshalText = %q, %v", text, err)
	}
	var zero Peer
	if zero.String() != "" || !zero.IsZero() {
		t.Errorf("the zero peer is %q", zero)
	}
}

func TestBase(t *testing.T) {
	a, b := mustPeer(t, "imessage", "iMessage;+;chat7A"), mustPeer(t, "imessage", "SMS;+;CHAT7a")
	if a == b || a.Base() != b.Base() {
		t.Errorf("%q and %q: bases %q and %q", a, b, a.Base(), b.Base())
	}
	if other := mustPeer(t, "imessage", "iMessage;+;chat8"); other.Base() == a.Base() {
		t.Errorf("%q and %q have one base", other, a)
	}
	if p := mustPeer(t, "loopback", "echo"); p.Base() != p {
		t.Errorf("the base of %q is %q", p, p.Base())
	}
}

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"plain text\n\t1": "plain text\n\t1",
		"1\u200b2\u20603": "123",
		"１２３":             "123",
		"٠١٩":             "019",
		"pa\u00adss":      "pass",
		"ﬁle":             "file",
		"a\u202eb":        "ab",
		"a\x00b":          "ab",
		"𝟙𝟚":              "12",
		"grüße 日本":        "grüße 日本",
	} {
		if got := Fold(in); got != want {
			t.Errorf("Fold(%q) = %q; want %q", in, got, want)
		}
	}
}

// Every decimal digit there is, in sets of ten.
func TestFoldDigits(t *testing.T) {
	n := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.IsDigit(r) {
			continue
		}
		if got, want := Fold(string(r)), strconv.Itoa(n%10); got != want {
			t.Errorf("Fold(%U) = %q; want %q", r, got, want)
		}
		n++
	}
}

func TestFoldIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		once := Fold(rapid.String().Draw(t, "text"))
		if twice := Fold(once); twice != once {
			t.Fatalf("Fold(%q) = %q", once, twice)
		}
	})
}

func mustPeer(t testing.TB, channel, text string) Peer {
	t.Helper()
	p, err := ParsePeer(channel, text, "")
	if err != nil {
		t.Fatalf("ParsePeer(%s, %q): %v", channel, text, err)
	}
	return p
}

// drawText writes something that is likely to be a peer of some channel.
func drawText(t *rapid.T) string {
	digits := rapid.StringMatching(`[0-9]{1,16}`)
	name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._+-]{0,12}`)
	host := rapid.StringMatching(`[A-Za-zäöß0-9-]{1,8}(\.[a-zé]{1,4}){0,2}`)
	switch rapid.IntRange(0, 8).Draw(t, "form") {
	case 0:
		return "+" + digits.Draw(t, "digits")
	case 1:
		return rapid.StringMatching(`\+?[0-9 ().-]{3,20}`).Draw(t, "phone")
	case 2:
		return name.Draw(t, "local") + "@" + host.Draw(t, "host")
	case 3:
		return "chat:iMessage;+;" + name.Draw(t, "chat")
	case 4:
		return rapid.SampledFrom([]string{"iMessage", "SMS", "any"}).Draw(t, "service") + ";-;+" + digits.Draw(t, "digits")
	case 5:
		return rapid.SampledFrom([]string{"channel:", "user:"}).Draw(t, "kind") + digits.Draw(t, "digits")
	case 6:
		return "group:" + rapid.StringMatching(`[A-Za-z0-9+/]{22}={0,2}`).Draw(t, "group")
	case 7:
		return name.Draw(t, "name")
	}
	return rapid.String().Draw(t, "anything")
}

func drawPeer(t *rapid.T, channel string) Peer {
	for {
		if p, err := ParsePeer(channel, drawText(t), "US"); err == nil {
			return p
		}
	}
}

func TestParsePeerIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		channel := rapid.SampledFrom(ChannelNames()).Draw(t, "channel")
		region := rapid.SampledFrom([]string{"", "US", "DE", "IT", "MX", "BR"}).Draw(t, "region")
		checkCanonical(t, channel, drawText(t), region)
	})
}

func FuzzParsePeer(f *testing.F) {
	for i, text := range []string{"echo", "+1 (415) 555-1212", "415-555-1212", "a@BÜCHER.example", "iMessage;+;chat700", "SMS;-;+15551234567",
		"user:8c78cd2a-16ff-427d-83dc-1a5e36ce713d", "group:AAAAAAAAAAAAAAAAAAAAAA", "channel:42", "+123", "a@xn--exmple-4nf.com", "\u202a+1"} {
		f.Add(uint8(i), text, i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, channel uint8, text string, us bool) {
		region := ""
		if us {
			region = "US"
		}
		names := ChannelNames()
		checkCanonical(t, names[int(channel)%len(names)], text, region)
	})
}

// checkCanonical fails unless a text has no canonical form, or one that is its
// own, is of a kind of the channel, and is plain ASCII.
func checkCanonical(t interface{ Fatalf(string, ...any) }, channel, text, region string) {
	p, err := ParsePeer(channel, text, region)
	if err != nil {
		return
	}
	again, err := ParsePeer(channel, p.String(), region)
	if err != nil || again != p {
		t.Fatalf("ParsePeer(%s, %q, %q) = %q, and of that %q, %v", channel, text, region, p, again, err)
	}
	if again, err := ParsePeer(channel, p.String(), ""); err != nil || again != p {
		t.Fatalf("%q (%s) is %q, %v without a region", p, channel, again, err)
	}
	allowed := false
	for _, k := range channelKinds[channel] {
		allowed = allowed || k == p.Kind()
	}
	if !allowed {
		t.Fatalf("%q of channel %s is a %s", p, channel, p.Kind())
	}
	for _, r := range p.String() {
		if r <= ' ' || r > '~' || r == '*' {
			t.Fatalf("%q contains %q", p, r)
		}
	}
	for _, q := range []Peer{p.Base(), p.mailbox()} {
		if q.Kind() != p.Kind() || q.Base() != q.Base().Base() || q.mailbox() != q.mailbox().mailbox() {
			t.Fatalf("%q stands for %q", q, p)
		}
	}
	pattern, err := ParsePattern(channel, p.String(), region)
	if err != nil || !pattern.Match(p) || !pattern.Reaches(p) || pattern.String() != p.String() {
		t.Fatalf("the pattern %q of %q: %v", pattern, p, err)
	}
}

func ExampleParsePeer() {
	p, err := ParsePeer("imessage", "(415) 555-1212", "US")
	fmt.Println(p, err)
	// Output: +14155551212 <nil>
}

// TestNoCountryStartsWithZero: +001… is not a second spelling of +1… that a
// deny list does not see.
func TestNoCountryStartsWithZero(t *testing.T) {
	for _, channel := range []string{"imessage", "signal"} {
		for _, text := range []string{"+0015550001111", "+015550001111", "+00 1 555 000 1111", "+0001"} {
			if p, err := ParsePeer(channel, text, "US"); err == nil {
				t.Errorf("%s: %q is read as %s", channel, text, p)
			}
		}
	}
}
