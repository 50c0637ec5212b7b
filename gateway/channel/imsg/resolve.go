package imsg

import (
	"fmt"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// lookupRows is how many conversations, the latest first, are looked through
// for a chat id. Older ones are unknown to the gateway.
const lookupRows = 5000

// Lookup implements channel.Resolver: a chat id (or an identifier without its
// service) is a word of the tool's database, and so is the database's number
// for a conversation that was named by its peer.
func (*Channel) Lookup(op policy.Operation) (channel.Command, bool) {
	ask := false
	switch detail := op.Detail.(type) {
	case Send:
		ask = op.Verb == policy.VerbSend && len(op.To) == 0 && !detail.Target.Unknown && detail.Target != (Target{})
	case History:
		ask = op.Verb == policy.VerbRead && !detail.Target.Unknown && (op.Chat.IsZero() || detail.Target.ChatID == 0)
	}
	if !ask {
		return channel.Command{}, false
	}
	return request("chats.list", chatsRequest{Limit: lookupRows}), true
}

// Resolve implements channel.Resolver.
func (c *Channel) Resolve(op policy.Operation, reply channel.Reply) (policy.Operation, error) {
	rows, _, err := list(reply.Data, "chats")
	if err != nil {
		return op, &channel.ToolError{Code: channel.CodeToolFailed, Text: "the list of conversations was not understood"}
	}
	var known []conversation
	for _, raw := range rows {
		if row, ok := c.readConversation(raw); ok {
			known = append(known, row)
		}
	}
	switch detail := op.Detail.(type) {
	case Send:
		peer := findTarget(known, detail.Target)
		if peer.IsZero() {
			peer = nowhere(detail.Target)
			detail.Target = Target{ChatID: detail.Target.ChatID, Unknown: true}
		} else {
			detail.Target = Target{}
		}
		address(&op, peer)
		op.Detail = detail
	case History:
		row, ok := findConversation(known, op.Chat, detail.Target.ChatID)
		if ok {
			op.Chat, op.Group, detail.Target.ChatID = row.peer, row.group, row.id
		} else {
			detail.Target.Unknown = true
			if op.Chat.IsZero() {
				op.Chat, op.Group = nowhere(detail.Target), true
			}
		}
		op.Detail = detail
	default:
		return op, errStrange
	}
	return op, nil
}

// findTarget returns whom a send to a conversation reaches, and the zero peer
// when that is nobody or not certain.
func findTarget(known []conversation, target Target) policy.Peer {
	var found policy.Peer
	for _, row := range known {
		if target.ChatID != 0 && row.id != target.ChatID {
			continue
		}
		if target.ChatID == 0 && row.identifier != target.Identifier && tail(row.guid) != target.Identifier {
			continue
		}
		if row.send.IsZero() || !found.IsZero() && found.Base() != row.send.Base() {
			return policy.Peer{}
		}
		if found.IsZero() {
			found = row.send
		}
	}
	return found
}

// findConversation finds the conversation with a peer, or the one of a row id.
// Of several with one peer (iMessage and SMS) it is the latest, which the tool
// lists first.
func findConversation(known []conversation, peer policy.Peer, id int64) (conversation, bool) {
	for _, row := range known {
		if row.peer.IsZero() {
			continue
		}
		if id != 0 && row.id == id || id == 0 && row.peer.Base() == peer.Base() {
			return row, true
		}
	}
	return conversation{}, false
}

// nowhere is the peer under which a conversation that does not exist is
// judged. No conversation of Messages has such an identifier.
func nowhere(target Target) policy.Peer {
	peer, err := policy.ParsePeer(name, fmt.Sprintf("chat:any;+;no-such-chat-%d", target.ChatID), "")
	if err != nil {
		return policy.Peer{} // it denies
	}
	return peer
}

// unknownChat is what the tool says to a conversation that it does not have.
// Only who may reach every conversation hears it.
func unknownChat(op policy.Operation) error {
	text := "Chat not found"
	switch detail := op.Detail.(type) {
	case Send:
		text = "Invalid chat target: Unknown chat"
		if detail.Target.ChatID != 0 {
			text = fmt.Sprintf("Invalid chat target: Unknown chat id %d", detail.Target.ChatID)
		}
	case History:
		if detail.Target.ChatID != 0 {
			text = fmt.Sprintf("Chat not found: %d", detail.Target.ChatID)
		}
	}
	return &channel.ToolError{Code: channel.CodeToolFailed, Text: text}
}

// conversation is one row of `chats.list`, as far as it names a peer.
type conversation struct {
	id         int64
	identifier string
	guid       string
	people     []string
	peer       policy.Peer // the conversation as one peer; zero: unknown
	group      bool
	send       policy.Peer // whom a send to it reaches; zero: not certain
}

// place reads what names a conversation. It decides by the guid, the number of
// participants and the tool's own word together whether it is a group, because
// each alone has been seen to be wrong (contracts/imsg.md §5).
func (c *Channel) place(identifier, guid string, people []string, isGroup bool) conversation {
	v := conversation{identifier: identifier, guid: guid, people: people}
	direct := c.handle(identifier)
	if strings.Contains(guid, ";-;") {
		switch byGUID := c.handle(guid); {
		case byGUID.IsZero(), !direct.IsZero() && direct != byGUID, direct.IsZero() && identifier != "" && identifier != guid:
			direct = policy.Peer{}
		default:
			direct = byGUID
		}
	}
	v.group = isGroup || strings.Contains(guid, ";+;") || strings.Contains(identifier, ";+;") || len(people) > 1
	if v.group {
		v.peer = c.groupPeer(identifier, guid)
	} else if guid == "" || strings.Contains(guid, ";-;") {
		v.peer = direct
	}
	v.send = v.peer
	if looksLikeHandle(identifier) && len(people) <= 1 {
		// To such a row the tool sends as to a person, whatever its guid says.
		v.send = direct
	}
	return v
}

// groupPeer returns the group that a row is about.
func (c *Channel) groupPeer(identifier, guid string) policy.Peer {
	if guid == "" {
		guid = identifier
	}
	if before, id, ok := strings.Cut(guid, ";-;"); ok && !looksLikeHandle(id) {
		guid = before + ";+;" + id // the tool takes both for the same
	}
	peer, err := policy.ParsePeer(name, guid, "")
	if err != nil || peer.Kind() != policy.KindChat {
		return policy.Peer{}
	}
	return peer
}

// handle returns the person that text names, and the zero peer when it names
// none.
func (c *Channel) handle(text string) policy.Peer {
	if strings.Contains(text, ":") {
		return policy.Peer{}
	}
	peer, err := policy.ParsePeer(name, text, c.region)
	if err != nil || peer.Kind() != policy.KindPhone && peer.Kind() != policy.KindEmail {
		return policy.Peer{}
	}
	return peer
}
