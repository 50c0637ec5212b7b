package imsg

import (
	"math"
	"strings"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// How many rows the tool prints when it is not told (contracts/imsg.md §3).
const (
	defaultMessages = 50
	defaultChats    = 20
)

// maxParticipants bounds the filter of one call.
const maxParticipants = 64

// History is the Detail of a VerbRead.
type History struct {
	Target       Target   // ChatID after Resolve
	Limit        int      // rows that the client is shown at most, 0 to channel.MaxRows
	Participants []string // canonical; only messages from these
	Start, End   string   // channel.TimeFormat; empty: open
}

// Chats is the Detail of a VerbList.
type Chats struct {
	Limit int // rows that the client is shown at most, 0 to channel.MaxRows
}

// historyRequest is the request `messages.history` of `imsg rpc`. Attachments
// are always asked for: whether a client sees more than their number is
// decided when its answer is written.
type historyRequest struct {
	ChatID       int64    `json:"chat_id"`
	Limit        int      `json:"limit"`
	Participants []string `json:"participants,omitempty"`
	Start        string   `json:"start,omitempty"`
	End          string   `json:"end,omitempty"`
	Attachments  bool     `json:"attachments"`
}

// chatsRequest is the request `chats.list`.
type chatsRequest struct {
	Limit int `json:"limit"`
}

func (c *Channel) classifyHistory(o options, _ channel.Call) (policy.Operation, error) {
	id, ok := o.integer("chat-id")
	if !ok {
		return policy.Operation{}, usage("Missing required option: --chat-id")
	}
	detail := History{Limit: limit(o, defaultMessages)}
	for _, word := range o["participants"] {
		for one := range strings.SplitSeq(word, ",") {
			if one == "" {
				continue
			}
			peer, err := policy.ParsePeer(name, one, c.region)
			if err != nil || peer.Kind() == policy.KindChat || len(detail.Participants) == maxParticipants {
				return policy.Operation{}, notAPeer("this list of participants", err)
			}
			detail.Participants = append(detail.Participants, peer.String())
		}
	}
	for _, bound := range []struct {
		option string
		value  *string
	}{{"start", &detail.Start}, {"end", &detail.End}} {
		text, ok := o.last(bound.option)
		if !ok {
			continue
		}
		when, ok := instant(text)
		if !ok {
			return policy.Operation{}, usage("Invalid ISO8601 date: %s", text)
		}
		*bound.value = when
	}
	if id <= 0 {
		return policy.Operation{}, usage("Chat not found: %d", id)
	}
	detail.Target.ChatID = id
	op := operation(policy.VerbRead, "history")
	op.Detail = detail
	return op, nil
}

func (c *Channel) classifyChats(o options, _ channel.Call) (policy.Operation, error) {
	op := operation(policy.VerbList, "chats")
	op.Detail = Chats{Limit: limit(o, defaultChats)}
	return op, nil
}

// limit reads --limit. What is no integer counts as absent, and a negative one
// as "all", as in the tool; "all" is bounded here.
func limit(o options, otherwise int) int {
	n, ok := o.integer("limit")
	switch {
	case !ok:
		return otherwise
	case n < 0:
		n = math.MaxInt64
	}
	return int(min(n, channel.MaxRows))
}

// instant reads a time and writes it in one form; fractions are cut to
// milliseconds.
func instant(s string) (string, bool) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return "", false
	}
	out := t.UTC().Format(channel.TimeFormat)
	// A year that a shift of the zone moved out of four digits does not come
	// back.
	again, err := time.Parse(time.RFC3339, out)
	return out, err == nil && again.Equal(t.Truncate(time.Millisecond))
}

func commandHistory(op policy.Operation) (channel.Command, error) {
	detail, ok := op.Detail.(History)
	if !ok || op.Command != "history" || len(op.To) > 0 || len(op.Body) > 0 || len(op.Files) > 0 || op.Chat.IsZero() ||
		detail.Limit < 0 || detail.Limit > channel.MaxRows || len(detail.Participants) > maxParticipants || detail.Target.Identifier != "" {
		return channel.Command{}, errStrange
	}
	if detail.Target.Unknown {
		return channel.Command{}, unknownChat(op)
	}
	if detail.Target.ChatID <= 0 {
		return channel.Command{}, errStrange
	}
	return request("messages.history", historyRequest{
		ChatID: detail.Target.ChatID, Limit: channel.FetchMessages(detail.Limit),
		Participants: detail.Participants, Start: detail.Start, End: detail.End, Attachments: true,
	}), nil
}

func commandChats(op policy.Operation) (channel.Command, error) {
	detail, ok := op.Detail.(Chats)
	if !ok || op.Command != "chats" || len(op.To) > 0 || len(op.Body) > 0 || len(op.Files) > 0 || !op.Chat.IsZero() ||
		detail.Limit < 0 || detail.Limit > channel.MaxRows {
		return channel.Command{}, errStrange
	}
	return request("chats.list", chatsRequest{Limit: channel.FetchChats(detail.Limit)}), nil
}
