package policy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxPeer bounds the text of a peer, in bytes: the longest lawful one is an
// e-mail address (254, RFC 5321 §4.5.3.1.3) whose domain is not yet in ASCII.
const maxPeer = 512

// Errors that a channel tells apart, because the tool's own wording depends on
// them.
var (
	// ErrNoRegion is wrapped when a phone number without + meets a
	// configuration without region.
	ErrNoRegion = errors.New("no region configured to read a phone number without +")
	// ErrContactName is wrapped when the text can only be a name in somebody's
	// address book.
	ErrContactName = errors.New("a contact name cannot be judged: the real tool would resolve it after our check")
)

// grammars lists, for every channel, the readers of the kinds that it knows,
// each asked only when its test says that the text is meant for it.
var grammars = map[string]func(text, region string) (Peer, error){
	"loopback": func(text, _ string) (Peer, error) { return parseName(text) },
	"imessage": parseIMessage,
	"signal":   parseSignal,
	"discord":  func(text, _ string) (Peer, error) { return parseDiscord(text) },
	"gmail":    func(text, _ string) (Peer, error) { return parseEmail(text) },
}

// channelKinds lists which kinds of peers a channel has.
var channelKinds = map[string][]Kind{
	"loopback": {KindName},
	"imessage": {KindPhone, KindEmail, KindChat},
	"signal":   {KindPhone, KindUser, KindGroup},
	"discord":  {KindChannel, KindUser},
	"gmail":    {KindEmail},
}

// ParsePeer reads the text that names a peer of a channel and returns its one
// canonical form. Region (ISO 3166, "US") is how a phone number without + is
// read; without a region such a number is an error that wraps ErrNoRegion.
//
// What has no canonical form is refused, never repaired: control characters,
// zero-width and bidirectional characters, digits and letters that only look
// like the ASCII ones, contact names. An error does not contain the text, so
// that it can be logged.
//
// ParsePeer is idempotent: for every p it returns, ParsePeer(channel,
// p.String(), region) is p.
func ParsePeer(channel, text, region string) (Peer, error) {
	parse, ok := grammars[channel]
	if !ok {
		return Peer{}, fmt.Errorf("there is no channel %q", channel)
	}
	if err := checkText(text); err != nil {
		return Peer{}, err
	}
	return parse(text, region)
}

// checkText refuses what no peer of any channel contains. Non-ASCII letters
// pass here, for the sake of international domain names, and are refused
// everywhere else by the grammars.
func checkText(text string) error {
	if text == "" {
		return errors.New("it is empty")
	}
	if len(text) > maxPeer {
		return fmt.Errorf("it is longer than %d bytes", maxPeer)
	}
	if !utf8.ValidString(text) {
		return errors.New("it is not valid UTF-8")
	}
	for _, r := range text {
		if what := foul(r); what != "" {
			return fmt.Errorf("it contains a %s (%U)", what, r)
		}
	}
	return nil
}

func parseName(text string) (Peer, error) {
	id := strings.ToLower(text)
	if len(id) > 64 {
		return Peer{}, errors.New("a name has at most 64 characters")
	}
	for i := 0; i < len(id); i++ {
		if !nameByte(id[i], i == 0) {
			return Peer{}, errors.New("a name consists of a-z, 0-9, dot, hyphen and underscore, and starts with a letter or digit")
		}
	}
	// ToLower of a non-ASCII letter can be ASCII (U+212A KELVIN SIGN).
	if !ascii(text) {
		return Peer{}, errors.New("a name consists of ASCII letters")
	}
	return Peer{KindName, id}, nil
}

func nameByte(c byte, first bool) bool {
	if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
		return true
	}
	return !first && (c == '.' || c == '_' || c == '-')
}

func parseIMessage(text, region string) (Peer, error) {
	guid, chat := strings.CutPrefix(text, "chat:")
	if !chat && !strings.Contains(text, ";") {
		return parseHandle(text, region)
	}
	service, rest, _ := strings.Cut(guid, ";")
	sign, id, found := strings.Cut(rest, ";")
	if !found {
		return Peer{}, errors.New("a chat is named by its whole guid, such as chat:iMessage;+;chat700")
	}
	switch service {
	case "iMessage", "SMS", "RCS", "any":
	default:
		return Peer{}, errors.New("the service of a chat guid is iMessage, SMS, RCS or any")
	}
	switch sign {
	case "-":
		return parseHandle(id, region)
	case "+":
		if err := checkChatID(id); err != nil {
			return Peer{}, err
		}
		return Peer{KindChat, service + ";+;" + id}, nil
	}
	return Peer{}, errors.New("the middle part of a chat guid is + for a group or - for one person")
}

// parseHandle reads a phone number or an e-mail address: what imsg takes for a
// person without asking the address book.
func parseHandle(text, region string) (Peer, error) {
	switch {
	case strings.Contains(text, "@"):
		return parseEmail(text)
	case phoneLike(text):
		return parsePhone(text, region)
	}
	return Peer{}, ErrContactName
}

func checkChatID(id string) error {
	if id == "" || len(id) > 128 {
		return errors.New("the last part of a chat guid has 1 to 128 characters")
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		if !letterOrDigit(c) && !strings.ContainsRune("._+=@-", rune(c)) {
			return errors.New("the last part of a chat guid consists of letters, digits and ._+=@-")
		}
	}
	return nil
}

func parseSignal(text, region string) (Peer, error) {
	if id, ok := strings.CutPrefix(text, "group:"); ok {
		return parseSignalGroup(id)
	}
	id, user := strings.CutPrefix(text, "user:")
	if user || uuidLike(id) {
		if !uuidLike(id) {
			return Peer{}, errors.New("a Signal user is named by an ACI, a UUID such as user:8c78cd2a-16ff-427d-83dc-1a5e36ce713d")
		}
		return Peer{KindUser, strings.ToLower(id)}, nil
	}
	if strings.HasPrefix(text, "u:") {
		return Peer{}, errors.New("a Signal username cannot be judged by this version: name the phone number or the ACI")
	}
	if phoneLike(text) {
		return parsePhone(text, region)
	}
	return Peer{}, errors.New("a Signal peer is a phone number, user:UUID or group:ID")
}

// parseSignalGroup compares what signal-cli compares, the decoded bytes: it
// ignores missing padding and the unused bits of the last character
// (contracts/signal-cli.md §2), so several texts name one group.
func parseSignalGroup(id string) (Peer, error) {
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(id, "="))
	if err != nil || strings.ContainsAny(id, "\r\n") {
		return Peer{}, errors.New("a Signal group is named by group: and its id in standard base64")
	}
	if len(raw) != 16 && len(raw) != 32 {
		return Peer{}, fmt.Errorf("a Signal group id has 16 or 32 bytes, this one has %d", len(raw))
	}
	return Peer{KindGroup, base64.StdEncoding.EncodeToString(raw)}, nil
}

func parseDiscord(text string) (Peer, error) {
	kind := KindChannel
	id, ok := strings.CutPrefix(text, "channel:")
	if !ok {
		kind = KindUser
		if id, ok = strings.CutPrefix(text, "user:"); !ok {
			return Peer{}, errors.New("a Discord peer is channel:ID or user:ID")
		}
	}
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != id || n == 0 {
		return Peer{}, errors.New("a Discord id is a whole number of at most 20 digits")
	}
	return Peer{kind, id}, nil
}

func uuidLike(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
				return false
			}
		}
	}
	return true
}

func letterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
