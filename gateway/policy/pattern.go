package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

type shape uint8

const (
	exact     shape = iota // one peer
	prefix                 // everything of the kind that starts with text
	domain                 // every address at text
	subdomain              // every address at a name below text, not at text itself
)

// Pattern says which peers an entry of a list means. It is comparable with ==;
// the zero Pattern matches nobody.
type Pattern struct {
	shape shape
	kind  Kind
	text  string // canonical
}

// ParsePattern reads one entry of a list: a peer as ParsePeer reads it,
// "+1415555*" (a prefix of a phone number), "team-*" (a prefix of a name),
// "*@example.com" (every address there) or "*@*.example.com" (every address at
// a name below it).
//
// A prefix of an e-mail address is refused, because anybody can own
// jane@example.com.evil.example; so is a prefix of an id, which says nothing;
// and so is a bare "*", because mode: open says the same and is seen.
func ParsePattern(channel, text, region string) (Pattern, error) {
	kinds, ok := channelKinds[channel]
	if !ok {
		return Pattern{}, fmt.Errorf("there is no channel %q", channel)
	}
	if !strings.Contains(text, "*") {
		p, err := ParsePeer(channel, text, region)
		return Pattern{exact, p.kind, p.id}, err
	}
	if err := checkText(text); err != nil {
		return Pattern{}, err
	}
	if strings.Trim(text, "*") == "" {
		return Pattern{}, errors.New("a * alone would mean everybody: set mode: open if that is meant")
	}
	if rest, found := strings.CutPrefix(text, "*@"); found {
		if !slices.Contains(kinds, KindEmail) {
			return Pattern{}, fmt.Errorf("channel %s has no e-mail addresses", channel)
		}
		return parseDomainPattern(rest)
	}
	rest, found := strings.CutSuffix(text, "*")
	if !found || strings.Contains(rest, "*") {
		return Pattern{}, errors.New("a * stands at the end (+1415555*), or before the domain (*@example.com, *@*.example.com)")
	}
	switch {
	case slices.Contains(kinds, KindName):
		p, err := parseName(rest)
		return Pattern{prefix, p.kind, p.id}, err
	case slices.Contains(kinds, KindPhone) && strings.HasPrefix(rest, "+"):
		return parsePhonePrefix(rest)
	case slices.Contains(kinds, KindPhone) && phoneLike(rest):
		return Pattern{}, errors.New("the beginning of a phone number is written with + and the country code")
	}
	return Pattern{}, errors.New("only the beginning of a phone number or of a name can be followed by *")
}

func parsePhonePrefix(text string) (Pattern, error) {
	bare, err := stripPhone(text)
	if err != nil {
		return Pattern{}, err
	}
	if len(bare) < 2 || len(bare) > 16 {
		return Pattern{}, errors.New("the beginning of a phone number has 1 to 15 digits")
	}
	return Pattern{prefix, KindPhone, bare}, nil
}

func parseDomainPattern(text string) (Pattern, error) {
	kind := domain
	rest, found := strings.CutPrefix(text, "*.")
	if found {
		kind = subdomain
	}
	if strings.Contains(rest, "*") {
		return Pattern{}, errors.New("only *@domain and *@*.domain are understood")
	}
	name, err := parseDomain(rest)
	if err != nil {
		return Pattern{}, err
	}
	return Pattern{kind, KindEmail, name}, nil
}

// IsZero reports whether the pattern matches nobody because it is none.
func (p Pattern) IsZero() bool { return p.kind == KindNone }

// String returns the canonical text, which ParsePattern reads back to p.
func (p Pattern) String() string {
	switch p.shape {
	case prefix:
		return p.kind.prefix() + p.text + "*"
	case domain:
		return "*@" + p.text
	case subdomain:
		return "*@*." + p.text
	}
	return p.kind.prefix() + p.text
}

// Match reports whether the peer is one that the pattern means. Kinds must
// agree: the beginning of a phone number never matches an address.
func (p Pattern) Match(q Peer) bool { return p.match(q) }

// match is Match without a copy of the pattern: lists are long.
func (p *Pattern) match(q Peer) bool {
	if p.kind != q.kind || p.kind == KindNone {
		return false
	}
	switch p.shape {
	case exact:
		return p.text == q.id || p.kind == KindChat && Peer{p.kind, p.text}.Base() == q.Base()
	case prefix:
		return strings.HasPrefix(q.id, p.text)
	case domain:
		_, host, _ := strings.Cut(q.id, "@")
		return host == p.text
	case subdomain:
		_, host, _ := strings.Cut(q.id, "@")
		return below(host, p.text)
	}
	return false
}

// Reaches reports whether what is sent to q may arrive at somebody whom the
// pattern means: as Match, and also under another spelling of one mailbox
// (b.ob+x@googlemail.com for bob@gmail.com). Deny lists are read this way.
func (p Pattern) Reaches(q Peer) bool { return p.reaches(q) }

func (p *Pattern) reaches(q Peer) bool {
	if p.match(q) {
		return true
	}
	if p.kind != KindEmail || q.kind != KindEmail {
		return false
	}
	box := q.mailbox()
	switch p.shape {
	case exact:
		return Peer{p.kind, p.text}.mailbox() == box
	case domain:
		return Pattern{domain, KindEmail, mailDomain(p.text)}.Match(box)
	}
	return p.match(box)
}

// Covers reports whether every peer that q matches is matched by p.
func (p Pattern) Covers(q Pattern) bool {
	if p.kind != q.kind || p.kind == KindNone {
		return false
	}
	if q.shape == exact {
		return p.Match(Peer{q.kind, q.text})
	}
	switch p.shape {
	case prefix:
		return q.shape == prefix && strings.HasPrefix(q.text, p.text)
	case domain:
		return q.shape == domain && q.text == p.text
	case subdomain:
		return below(q.text, p.text) || q.shape == subdomain && q.text == p.text
	}
	return false
}

func below(host, name string) bool {
	return len(host) > len(name)+1 && strings.HasSuffix(host, name) && host[len(host)-len(name)-1] == '.'
}
