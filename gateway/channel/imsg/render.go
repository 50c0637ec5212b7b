package imsg

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Render implements channel.Channel.
func (*Channel) Render(call channel.Call, op policy.Operation, r channel.Result) channel.Output {
	if r.Err != nil {
		return refusal(r.Err)
	}
	if call.Method != "" {
		return renderMethod(op, r)
	}
	var given options
	if len(call.Argv) > 1 {
		if _, o, err := parse(call.Argv); err == nil {
			given = o
		}
	}
	switch op.Verb {
	case policy.VerbSend:
		if _, ok := sent(r.Reply); !ok {
			return channel.Output{
				Stdout: []byte(program + ": the tool's answer was not understood; it is not known whether the message left\n"),
				Exit:   channel.ExitFailed,
			}
		}
		if given.has("json") {
			return printed([]byte(`{"status":"sent"}` + "\n"))
		}
		return printed([]byte("sent\n"))
	case policy.VerbRead:
		return renderHistory(op, r, given)
	case policy.VerbList:
		return renderChats(op, r, given)
	}
	return channel.Output{Exit: channel.ExitBug}
}

func printed(b []byte) channel.Output { return channel.Output{Stdout: b} }

// refusal writes a refusal where users of imsg look for errors: on standard
// output. The hint goes to standard error, where imsg itself never writes.
func refusal(r *channel.Refusal) channel.Output {
	what, hint := r.Lines(program)
	if r.Code == channel.CodeToolFailed {
		what = toolText(r.Reason) + "\n"
	}
	return channel.Output{Stdout: []byte(what), Stderr: []byte(hint), Exit: channel.ExitFor(r.Code)}
}

// toolText is the tool's complaint as its command line would print it: without
// the class that JSON-RPC puts before it.
func toolText(s string) string {
	for _, class := range []string{"Invalid params: ", "Internal error: "} {
		s = strings.TrimPrefix(s, class)
	}
	return channel.Scrub(s)
}

// sent reads the answer to a send. The tool names the new message only when it
// has seen it in the database.
func sent(reply channel.Reply) (id string, ok bool) {
	f := readFields(reply.Data)
	ok = f.need("ok").boolean("ok")
	id = guid(f.text("guid"))
	if n := f.integer("id"); id == "" && n > 0 {
		id = strconv.FormatInt(n, 10)
	}
	return id, ok && !f.wrong
}

// The JSON of a line of `history` and `chats` (contracts/imsg.md §2).
type (
	messageJSON struct {
		ID             int64            `json:"id"`
		ChatID         int64            `json:"chat_id"`
		GUID           string           `json:"guid"`
		ReplyTo        string           `json:"reply_to_guid,omitempty"`
		Thread         string           `json:"thread_originator_guid,omitempty"`
		Sender         string           `json:"sender"`
		FromMe         bool             `json:"is_from_me"`
		Text           string           `json:"text"`
		CreatedAt      string           `json:"created_at"`
		Attachments    []attachmentJSON `json:"attachments"`
		Reactions      []reactionJSON   `json:"reactions"`
		ChatIdentifier string           `json:"chat_identifier"`
		ChatGUID       string           `json:"chat_guid"`
		ChatName       string           `json:"chat_name"`
		Participants   []string         `json:"participants"`
		Group          bool             `json:"is_group"`
	}
	attachmentJSON struct {
		Filename     string `json:"filename"`
		TransferName string `json:"transfer_name"`
		UTI          string `json:"uti"`
		MIME         string `json:"mime_type"`
		Bytes        int64  `json:"total_bytes"`
		Sticker      bool   `json:"is_sticker"`
		OriginalPath string `json:"original_path"` // always "": it is in the service user's home
		Missing      bool   `json:"missing"`       // always true: for the client it is
	}
	reactionJSON struct {
		ID        int64  `json:"id"`
		Type      string `json:"type"`
		Emoji     string `json:"emoji"`
		Sender    string `json:"sender"`
		FromMe    bool   `json:"is_from_me"`
		CreatedAt string `json:"created_at"`
	}
	chatJSON struct {
		ID            int64    `json:"id"`
		Name          string   `json:"name"`
		DisplayName   string   `json:"display_name"`
		Identifier    string   `json:"identifier"`
		GUID          string   `json:"guid,omitempty"`
		Service       string   `json:"service"`
		LastMessageAt string   `json:"last_message_at"`
		Group         bool     `json:"is_group"`
		Participants  []string `json:"participants"`
	}
)

func renderHistory(op policy.Operation, r channel.Result, given options) channel.Output {
	var out []byte
	for _, s := range shownMessages(op, r) {
		if given.has("json") {
			line, err := channel.JSONLine(s.json())
			if err != nil {
				return channel.Output{Exit: channel.ExitBug}
			}
			out = append(out, line...)
			continue
		}
		out = append(out, s.lines(given.has("attachments"))...)
	}
	return printed(out)
}

// shown is one message that may be shown, with the words that were judged.
type shown struct {
	message
	op policy.Operation
}

// shownMessages are the messages that the client asked for, the newest first.
func shownMessages(op policy.Operation, r channel.Result) []shown {
	detail, _ := op.Detail.(History)
	var all []shown
	for _, item := range r.Shown {
		if m, ok := spoken(item); ok && len(all) < detail.Limit {
			all = append(all, shown{m, item})
		}
	}
	return all
}

func (s shown) json() messageJSON {
	j := messageJSON{
		ID: s.ID, ChatID: s.ChatID, GUID: s.GUID, ReplyTo: s.ReplyTo, Thread: s.Thread, Sender: s.Sender, FromMe: s.FromMe,
		Text: s.text, CreatedAt: s.CreatedAt, ChatIdentifier: s.ChatIdentifier, ChatGUID: s.ChatGUID, ChatName: s.chatName,
		Participants: s.Participants, Group: s.op.Group,
		Attachments: []attachmentJSON{}, Reactions: []reactionJSON{},
	}
	for i, a := range s.Attachments {
		j.Attachments = append(j.Attachments, attachmentJSON{
			Filename: s.files[2*i], TransferName: s.files[2*i+1],
			UTI: a.UTI, MIME: a.MIME, Bytes: a.Bytes, Sticker: a.Sticker, Missing: true,
		})
	}
	for i, re := range s.Reactions {
		j.Reactions = append(j.Reactions, reactionJSON{
			ID: re.ID, Type: re.Type, Emoji: s.reacted[i], Sender: re.Sender, FromMe: re.FromMe, CreatedAt: re.CreatedAt,
		})
	}
	return j
}

// lines is a message in text. Every foreign word is escaped, so that a message
// is one line and its attachments are one each.
func (s shown) lines(attachments bool) string {
	direction := "recv"
	if s.FromMe {
		direction = "sent"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s [%s] %s: %s\n", s.CreatedAt, direction, s.Sender, channel.Escape(s.text))
	n := len(s.Attachments)
	switch {
	case n == 0:
	case attachments:
		for i, a := range s.Attachments {
			title := s.files[2*i+1]
			if title == "" {
				title = s.files[2*i]
			}
			if title == "" {
				title = "(unknown)"
			}
			fmt.Fprintf(&b, "  attachment: name=%s mime=%s missing=true path=\n", channel.Escape(title), a.MIME)
		}
	case n == 1:
		b.WriteString("  (1 attachment)\n")
	default:
		fmt.Fprintf(&b, "  (%d attachments)\n", n)
	}
	return b.String()
}

func renderChats(op policy.Operation, r channel.Result, given options) channel.Output {
	detail, _ := op.Detail.(Chats)
	var out []byte
	n := 0
	for _, item := range r.Shown {
		row, ok := item.Detail.(Row)
		if !ok || len(item.Body) != 1 || n >= detail.Limit {
			continue
		}
		n++
		title := string(item.Body[0])
		if !given.has("json") {
			out = fmt.Appendf(out, "[%d] %s (%s) last=%s\n", row.ID, channel.Escape(title), row.Identifier, row.LastMessageAt)
			continue
		}
		line, err := channel.JSONLine(chatJSON{
			ID: row.ID, Name: title, DisplayName: title, Identifier: row.Identifier, GUID: row.GUID, Service: row.Service,
			LastMessageAt: row.LastMessageAt, Group: item.Group, Participants: row.Participants,
		})
		if err != nil {
			return channel.Output{Exit: channel.ExitBug}
		}
		out = append(out, line...)
	}
	return printed(out)
}

// renderMethod writes the results of our own methods, which are the same for
// every channel.
func renderMethod(op policy.Operation, r channel.Result) channel.Output {
	switch op.Verb {
	case policy.VerbSend:
		id, ok := sent(r.Reply)
		if !ok {
			return channel.Output{Exit: channel.ExitFailed, Stderr: []byte(program + ": the tool's answer was not understood\n")}
		}
		return channel.Output{Result: channel.Sent{ID: id, Status: "sent"}}
	case policy.VerbRead:
		history := channel.History{Messages: []channel.Message{}}
		for _, s := range shownMessages(op, r) {
			direction := "in"
			if s.FromMe {
				direction = "out"
			}
			history.Messages = append(history.Messages, channel.Message{
				ID: strconv.FormatInt(s.ID, 10), Channel: name, Direction: direction, Peer: s.op.Chat.String(),
				From: s.op.From.String(), Text: s.text, Time: s.CreatedAt,
			})
		}
		slices.Reverse(history.Messages)
		return channel.Output{Result: history}
	case policy.VerbList:
		detail, _ := op.Detail.(Chats)
		chats := channel.Conversations{Chats: []channel.Conversation{}}
		for _, item := range r.Shown {
			if row, ok := item.Detail.(Row); ok && len(chats.Chats) < detail.Limit {
				chats.Chats = append(chats.Chats, channel.Conversation{Peer: item.Chat.String(), LastMessageAt: row.LastMessageAt})
			}
		}
		return channel.Output{Result: chats}
	}
	return channel.Output{Exit: channel.ExitBug}
}
