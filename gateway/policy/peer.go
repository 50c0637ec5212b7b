package policy

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

// Peer is one party or one conversation in its canonical form. Two peers are
// the same exactly when they are equal with ==. A Peer is made only by
// ParsePeer (and so by nobody who did not check): its fields are not settable
// from outside.
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
