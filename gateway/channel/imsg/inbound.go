package imsg

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Message is the Detail of a VerbReceive that is a message: what of a row may
// be shown, without its words. Those are in the operation's Body, in the order
// of texts, so that a judge who replaces words there has replaced them.
type Message struct {
	ID, ChatID      int64
	GUID            string
	ReplyTo, Thread string // guids
	FromMe          bool
	Sender          string // canonical; "" for the owner
	CreatedAt       string // channel.TimeFormat
	ChatIdentifier  string
	ChatGUID        string
	Participants    []string
	Attachments     []Attachment
	Reactions       []Reaction
}

// message is a Message with its words.
type message struct {
	Message
	text, chatName string
	files          []string // two for each attachment: name in the database, name as sent
	reacted        []string // one for each reaction
}

// Attachment is what may be said of an attached file. There is no path in it:
// the file is in the service user's home.
type Attachment struct {
	UTI, MIME string
	Bytes     int64
	Sticker   bool
}

// Reaction is a reaction of the owner's or of the message's own sender.
type Reaction struct {
	ID        int64
	Type      string
	Sender    string // canonical; "" for the owner
	FromMe    bool
	CreatedAt string
}

// Row is the Detail of a VerbReceive that is a conversation. Its name is in
// the operation's Body.
type Row struct {
	ID            int64
	Identifier    string
	GUID          string
	Service       string
	LastMessageAt string // channel.TimeFormat
	Participants  []string
}

// Inbound implements channel.Channel.
func (c *Channel) Inbound(op policy.Operation, data []byte) (items []policy.Operation, dropped int, err error) {
	member, read := "", (func(policy.Operation, json.RawMessage) (policy.Operation, bool))(nil)
	switch op.Verb {
	case policy.VerbRead:
		member, read = "messages", c.readMessage
	case policy.VerbList:
		member, read = "chats", c.readChat
	default:
		return nil, 0, nil
	}
	rows, dropped, err := list(data, member)
	if err != nil {
		return nil, 0, err
	}
	for _, raw := range rows {
		item, ok := read(op, raw)
		if !ok {
			dropped++
			continue
		}
		item.Channel, item.Direction, item.Verb = name, policy.Inbound, policy.VerbReceive
		item.Command, item.Default = op.Command, op.Default
		items = append(items, item)
	}
	return items, dropped, nil
}

// list returns the objects in the one list that a result holds, and how many
// of its elements were none.
func list(data []byte, member string) (rows []json.RawMessage, dropped int, err error) {
	var all []json.RawMessage
	found := false
	err = channel.EachMember(data, func(n string, v json.RawMessage) error {
		if n != member {
			return nil
		}
		found = true
		return json.Unmarshal(v, &all)
	})
	if err == nil && !found {
		err = errors.New("it is not there")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", member, err)
	}
	for _, raw := range all {
		if len(raw) == 0 || raw[0] != '{' {
			dropped++
			continue
		}
		rows = append(rows, raw)
	}
	return rows, dropped, nil
}

// readChat makes an item of one row of `chats.list`.
func (c *Channel) readChat(_ policy.Operation, raw json.RawMessage) (policy.Operation, bool) {
	f := readFields(raw)
	v, ok := c.readConversation(raw)
	when, timed := instant(f.text("last_message_at"))
	title := f.text("name")
	service := word(f.text("service"))
	if f.wrong || !ok || !timed || v.peer.IsZero() {
		return policy.Operation{}, false
	}
	op := policy.Operation{Chat: v.peer, Group: v.group}
	row := Row{ID: v.id, GUID: shownGUID(v), Service: service, LastMessageAt: when, Participants: []string{}}
	other := v.peer
	if v.group {
		other = policy.Peer{}
		if len(v.people) == 1 {
			// Who is shown is judged.
			other = c.handle(v.people[0])
			op.From = other
		}
	}
	if !other.IsZero() {
		row.Participants = []string{other.String()}
	}
	row.Identifier = c.shownIdentifier(v, other)
	op.Body = []policy.Text{policy.Text(c.shownName(title, other))}
	op.Detail = row
	return op, true
}

// readConversation reads what names the conversation in a row of `chats.list`.
func (c *Channel) readConversation(raw json.RawMessage) (conversation, bool) {
	f := readFields(raw)
	id := f.need("id").integer("id")
	v := c.place(f.text("identifier"), f.text("guid"), f.texts("participants"), f.boolean("is_group"))
	v.id = id
	return v, !f.wrong && id > 0
}

// readMessage makes an item of one row of `messages.history`.
func (c *Channel) readMessage(asked policy.Operation, raw json.RawMessage) (policy.Operation, bool) {
	f := readFields(raw)
	m := message{text: f.need("text").text("text")}
	m.Message = Message{
		ID: f.need("id").integer("id"), ChatID: f.need("chat_id").integer("chat_id"),
		GUID: guid(f.text("guid")), ReplyTo: guid(f.text("reply_to_guid")), Thread: guid(f.text("thread_originator_guid")),
		FromMe: f.need("is_from_me").boolean("is_from_me"),
	}
	sender := f.text("sender")
	v := c.place(f.text("chat_identifier"), f.text("chat_guid"), f.texts("participants"), f.boolean("is_group"))
	title := f.text("chat_name")
	account := f.text("destination_caller_id")
	var timed bool
	m.CreatedAt, timed = instant(f.need("created_at").text("created_at"))
	files, reactions := f.rows("attachments"), f.rows("reactions")
	// A reaction that the tool prints as a message quotes somebody else's.
	event := f.boolean("is_reaction")
	if f.wrong || event || !timed || m.ID <= 0 || m.ChatID <= 0 || v.peer.IsZero() {
		return policy.Operation{}, false
	}
	want, _ := asked.Detail.(History)
	if want.Target.ChatID != 0 && m.ChatID != want.Target.ChatID || !asked.Chat.IsZero() && asked.Chat.Base() != v.peer.Base() {
		return policy.Operation{}, false
	}
	op := policy.Operation{Chat: v.peer, Group: v.group}
	switch from := c.handle(sender); {
	case m.FromMe:
		// What stands there may be the owner's own number.
		if from == v.peer {
			m.Sender = from.String()
		}
	case from.IsZero(), sender == account:
		// Nobody known wrote it; with no sender the tool puts the owner's own
		// number there.
		return policy.Operation{}, false
	default:
		op.From = from
		m.Sender = from.String()
	}
	shown := op.From
	if !v.group {
		shown = v.peer
	}
	m.Participants = []string{}
	if !shown.IsZero() {
		m.Participants = append(m.Participants, shown.String())
	}
	m.ChatGUID, m.ChatIdentifier = shownGUID(v), c.shownIdentifier(v, shown)
	m.chatName = c.shownName(title, shown)
	for _, file := range files {
		if !m.attach(file) {
			return policy.Operation{}, false
		}
	}
	for _, r := range reactions {
		if !m.react(c, r, op.From) {
			return policy.Operation{}, false
		}
	}
	for _, t := range m.texts() {
		op.Body = append(op.Body, policy.Text(*t))
	}
	op.Detail = m.Message
	return op, true
}

func (m *message) attach(raw json.RawMessage) bool {
	f := readFields(raw)
	m.Attachments = append(m.Attachments, Attachment{
		UTI: word(f.text("uti")), MIME: word(f.text("mime_type")),
		Bytes: max(f.integer("total_bytes"), 0), Sticker: f.boolean("is_sticker"),
	})
	m.files = append(m.files, base(f.text("filename")), base(f.text("transfer_name")))
	return !f.wrong
}

// react keeps a reaction when whoever reacted is judged with the message.
func (m *message) react(c *Channel, raw json.RawMessage, author policy.Peer) bool {
	f := readFields(raw)
	r := Reaction{ID: f.integer("id"), Type: word(f.text("type")), FromMe: f.boolean("is_from_me")}
	emoji := f.text("emoji")
	from := c.handle(f.text("sender"))
	when, ok := instant(f.text("created_at"))
	if f.wrong {
		return false
	}
	if !ok || !r.FromMe && (from.IsZero() || from != author) {
		return true
	}
	if !r.FromMe {
		r.Sender = from.String()
	}
	r.CreatedAt = when
	m.Reactions = append(m.Reactions, r)
	m.reacted = append(m.reacted, emoji)
	return true
}

// texts are the words of a message in the order in which they stand in the
// Body.
func (m *message) texts() []*string {
	all := []*string{&m.text, &m.chatName}
	for i := range m.files {
		all = append(all, &m.files[i])
	}
	for i := range m.reacted {
		all = append(all, &m.reacted[i])
	}
	return all
}

// spoken returns the message of an item with the words of its Body, and false
// when they do not fit together.
func spoken(op policy.Operation) (message, bool) {
	detail, ok := op.Detail.(Message)
	m := message{Message: detail, files: make([]string, 2*len(detail.Attachments)), reacted: make([]string, len(detail.Reactions))}
	if !ok {
		return m, false
	}
	places := m.texts()
	if len(places) != len(op.Body) {
		return m, false
	}
	for i, p := range places {
		*p = string(op.Body[i])
	}
	return m, true
}

// shownGUID is a conversation's guid, written from what was judged.
func shownGUID(v conversation) string {
	if v.group {
		return v.peer.ID()
	}
	service, _, ok := strings.Cut(v.guid, ";-;")
	if !ok {
		return ""
	}
	return service + ";-;" + v.peer.String()
}

// shownIdentifier is a conversation's identifier, written from what was
// judged: a group's may be the number of one of its members.
func (c *Channel) shownIdentifier(v conversation, judged policy.Peer) string {
	if !v.group {
		return v.peer.String()
	}
	if h := c.handle(v.identifier); !h.IsZero() && h == judged {
		return h.String()
	}
	return tail(v.peer.ID())
}

// shownName is a conversation's name, unless it is the number or address of
// somebody who is not judged with it.
func (c *Channel) shownName(title string, judged policy.Peer) string {
	if h := c.handle(title); !h.IsZero() && h != judged {
		return ""
	}
	return title
}

// base is the last part of a path, of whichever system.
func base(s string) string {
	if s == "" {
		return ""
	}
	s = path.Base(strings.ReplaceAll(s, `\`, "/"))
	if s == "." || s == "/" || s == ".." {
		return ""
	}
	return s
}

// word passes s when it is a technical term and no message: the sender of an
// attachment chooses its type.
func word(s string) string { return plain(s, 127, "./+_-") }

// guid passes the guid of a message.
func guid(s string) string { return plain(s, 128, ":/_-") }

func plain(s string, most int, besides string) string {
	if len(s) > most {
		return ""
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(besides, r) {
			return ""
		}
	}
	return s
}
