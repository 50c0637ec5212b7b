package policy

import (
	"log/slog"
	"strings"
)

// Kind says what sort of identifier a Peer is.
type Kind uint8

// The kinds. KindNone is the zero Peer's: it matches no pattern.
const (
	KindNone    Kind = iota
	KindName         // a plain name: loopback
	KindPhone        // E.164: +15551234567
	KindEmail        // lower-cased address
	KindChat         // chat:GUID, an iMessage conversation
	KindGroup        // group:ID, a Signal group
	KindChannel      // channel:ID, a Discord channel
	KindUser         // user:ID, a Discord or Signal user
)

var kindWords = [...]string{"nobody", "name", "phone number", "e-mail address", "chat", "group", "channel", "user"}

// String returns the kind in words that fit into an error text.
func (k Kind) String() string {
	if int(k) < len(kindWords) {
		return kindWords[k]
	}
	return "unknown kind"
}

// prefix is what the canonical text puts before the id.
func (k Kind) prefix() string {
	switch k {
	case KindChat:
		return "chat:"
	case KindGroup:
		return "group:"
	case KindChannel:
		return "channel:"
	case KindUser:
		return "user:"
	}
	return ""
}

// The reserved peers of the loopback channel. They exist whatever the
// configuration says (interface §3), so that an installation can be tried
// without touching anybody's list: a message to the first is always permitted
// by the peer rule, one to the second never.
const (
	VerifyOK       = "verify-ok"
	VerifyStranger = "verify-stranger"
)

// Peer is one party or one conversation in its canonical form. Two peers are
// the same exactly when they are equal with ==; only an iMessage group has
// more than one spelling that the tool takes for the same group (see Base). A
// Peer is made only by ParsePeer (and so by nobody who did not check): its
// fields are not settable from outside.
type Peer struct {
	kind Kind
	id   string
}

// Kind returns the sort of identifier.
func (p Peer) Kind() Kind { return p.kind }

// ID returns the identifier without the prefix of its kind.
func (p Peer) ID() string { return p.id }

// IsZero reports whether p is no peer at all.
func (p Peer) IsZero() bool { return p.kind == KindNone }

// String returns the canonical text: +15551234567, a@b.example,
// chat:iMessage;+;chat700, echo. For a peer of any channel,
// ParsePeer(channel, p.String(), region) is p again. The zero Peer is "".
func (p Peer) String() string { return p.kind.prefix() + p.id }

// MarshalText implements encoding.TextMarshaler with the canonical text.
func (p Peer) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// LogValue implements slog.LogValuer: whom somebody writes to is as private as
// what they write.
func (p Peer) LogValue() slog.Value {
	if p.IsZero() {
		return slog.StringValue("[no peer]")
	}
	return slog.StringValue("[" + p.kind.String() + "]")
}

// Base returns the peer that stands for all spellings of p that reach the same
// conversation: an iMessage group without its service and in lower case
// (contracts/imsg.md §5: imsg tries any;+;ID and its variants as equals, and a
// group that falls back to SMS keeps its ID under another service). Every
// other peer is its own base. Base is for comparing and counting only: it is
// not forwarded to a tool.
func (p Peer) Base() Peer {
	if p.kind != KindChat {
		return p
	}
	return Peer{KindChat, "any;+;" + strings.ToLower(chatID(p.id))}
}

// chatID is the part of a group guid that says which group it is.
func chatID(guid string) string {
	_, id, found := strings.Cut(guid, ";+;")
	if !found {
		return guid
	}
	return id
}

// mailbox returns the address that a provider would deliver to: without a
// +tag, and for Google's two domains, which ignore dots, without dots and
// under one name. Only deny lists are compared this way, where a spelling too
// few is a hole and a spelling too many only a refusal.
func (p Peer) mailbox() Peer {
	if p.kind != KindEmail {
		return p
	}
	local, domain, _ := strings.Cut(p.id, "@")
	if tagless, _, found := strings.Cut(local, "+"); found && tagless != "" {
		local = tagless
	}
	domain = mailDomain(domain)
	if domain == "gmail.com" {
		local = strings.ReplaceAll(local, ".", "")
	}
	return Peer{KindEmail, local + "@" + domain}
}

func mailDomain(domain string) string {
	if domain == "googlemail.com" {
		return "gmail.com"
	}
	return domain
}
