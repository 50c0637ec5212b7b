package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel/imsg/imsgtest"
)

type filter struct {
	people     []string
	start, end *time.Time
}

// messages returns those of a chat that pass the filter, newest first. A
// negative limit is none, as SQLite has it.
func (t *tool) messages(chat int64, limit int, f filter) []imsgtest.Message {
	var found []imsgtest.Message
	for _, m := range t.Messages {
		when, err := time.Parse(time.RFC3339, m.CreatedAt)
		switch {
		case m.ChatID != chat,
			err == nil && f.start != nil && when.Before(*f.start),
			err == nil && f.end != nil && !when.Before(*f.end),
			len(f.people) > 0 && !slices.ContainsFunc(f.people, func(p string) bool { return strings.EqualFold(p, m.Sender) }):
			continue
		}
		found = append(found, m)
	}
	slices.SortStableFunc(found, func(a, b imsgtest.Message) int { return strings.Compare(b.CreatedAt, a.CreatedAt) })
	if limit >= 0 && limit < len(found) {
		found = found[:limit]
	}
	return found
}

func (t *tool) contact(handle string) string {
	for _, c := range t.Contacts {
		if c.Handle == handle {
			return c.Name
		}
	}
	return ""
}

func group(c imsgtest.Chat) bool {
	return strings.Contains(c.GUID, ";+;") || strings.Contains(c.Identifier, ";+;")
}

// list returns s, and an empty list in place of none.
func list[T any](s []T) []T { return append([]T{}, s...) }

// chatRow is an item of chats.list.
func (t *tool) chatRow(c imsgtest.Chat) map[string]any {
	row := map[string]any{
		"id": c.ID, "identifier": c.Identifier, "guid": c.GUID, "name": c.Name, "service": c.Service,
		"last_message_at": c.LastMessageAt, "participants": list(c.Participants), "is_group": group(c),
	}
	if c.Name == "" {
		row["name"] = c.Identifier
	}
	if name := t.contact(c.Identifier); name != "" && !group(c) {
		row["contact_name"] = name
	}
	return row
}

// messageRow is a message as history, search and watch print it.
func (t *tool) messageRow(m imsgtest.Message, attachments bool) map[string]any {
	row := map[string]any{
		"id": m.ID, "chat_id": m.ChatID, "guid": m.GUID, "sender": m.Sender, "is_from_me": m.FromMe, "text": m.Text,
		"created_at": m.CreatedAt, "attachments": []any{}, "reactions": list(m.Reactions),
		"chat_identifier": "", "chat_guid": "", "chat_name": "", "participants": []string{}, "is_group": false,
	}
	if attachments {
		row["attachments"] = list(m.Attachments)
	}
	if c := t.chatByID(m.ChatID); c != nil {
		row["chat_identifier"], row["chat_guid"], row["chat_name"] = c.Identifier, c.GUID, c.Name
		row["participants"], row["is_group"] = list(c.Participants), group(*c)
	}
	if name := t.contact(m.Sender); name != "" && !m.FromMe {
		row["sender_name"] = name
	}
	for k, v := range map[string]string{
		"reply_to_guid": m.ReplyToGUID, "reply_to_text": m.ReplyToText, "reply_to_sender": m.ReplyToSender,
		"thread_originator_guid": m.ThreadOriginator, "destination_caller_id": m.DestinationCallerID,
	} {
		if v != "" {
			row[k] = v
		}
	}
	return row
}

// encode writes JSON as JSONSerialization does: no escapes for HTML, and,
// where the tool leaves its default, \/ for every slash.
func encode(v any, slashes bool) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return []byte(`{"jsonrpc":"2.0","error":{"code":-32603,"message":"write failed"}}`)
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if slashes {
		out = bytes.ReplaceAll(out, []byte("/"), []byte(`\/`))
	}
	return out
}
