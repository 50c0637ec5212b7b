// Package loopback is the embedded messenger: a channel with no account, no
// tool and no network, so that install, policy, queue, audit and verify can be
// seen working on any machine. A message to NAME lands in the mailbox NAME in
// the gateway's state folder, and the mailbox "echo" answers each message with
// the same words.
//
// Channel is its grammar, as pure as every other channel's; Messenger is the
// tool behind it, and takes the same requests that a foreign tool would, read
// as strictly as if a stranger had written them.
//
// It promises that a message is on disk before it is called sent, that it is
// written once, and that mailboxes stay within bounds whatever is sent to them
// (the oldest goes first).
//
// It refuses command lines: there is no tool of that name whose grammar could
// be kept.
package loopback

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// name is the channel's name in the configuration.
const name = "loopback"

// defaultLimit is how many rows a call without a limit is shown.
const defaultLimit = 50

// Channel is the grammar of the embedded messenger.
type Channel struct{}

// New returns the channel.
func New() *Channel { return &Channel{} }

var _ channel.Channel = (*Channel)(nil)

// Query is the Detail of a VerbRead or VerbList.
type Query struct {
	Limit int // rows that the client is shown at most, 1 to channel.MaxRows
}

// Item is the Detail of a VerbReceive that is a message. Its words are in the
// operation's Body alone.
type Item struct {
	ID        string
	Direction string // "in" or "out"
	Time      string // channel.TimeFormat
}

// Row is the Detail of a VerbReceive that is a conversation.
type Row struct {
	LastMessageAt string // channel.TimeFormat
}

// What the client's and the messenger's requests look like.
type (
	sendParams struct {
		To   *string `json:"to"`
		Text *string `json:"text"`
	}
	historyParams struct {
		Peer  *string `json:"peer"`
		Chat  *string `json:"chat"`
		Limit *int    `json:"limit"`
	}
	chatsParams struct {
		Limit *int `json:"limit"`
	}
	sendRequest struct {
		To   string `json:"to"`
		Text string `json:"text"`
	}
	historyRequest struct {
		Peer  string `json:"peer,omitempty"` // empty: all mailboxes
		Limit int    `json:"limit"`
	}
	chatsRequest struct {
		Limit int `json:"limit"`
	}
)

// Name implements channel.Channel.
func (*Channel) Name() string { return name }

// Tool implements channel.Channel: there is no tool.
func (*Channel) Tool() string { return "" }

// Classify implements channel.Channel.
func (*Channel) Classify(call channel.Call) (policy.Operation, error) {
	if call.Method == "" || len(call.Argv) > 0 || len(call.Stdin) > 0 {
		return policy.Operation{}, &channel.NotPermittedError{What: "a command line for loopback"}
	}
	switch call.Method {
	case "send":
		return classifySend(call.Params)
	case "get_history":
		return classifyHistory(call.Params)
	case "list_chats":
		var p chatsParams
		if err := channel.DecodeParams(call.Params, &p); err != nil {
			return policy.Operation{}, err
		}
		limit, err := limitOf(p.Limit)
		if err != nil {
			return policy.Operation{}, err
		}
		op := operation(policy.VerbList, "chats")
		op.Detail = Query{Limit: limit}
		return op, nil
	}
	return policy.Operation{}, &channel.NotPermittedError{What: fmt.Sprintf("method %q", call.Method)}
}

func classifySend(params json.RawMessage) (policy.Operation, error) {
	var p sendParams
	if err := channel.DecodeParams(params, &p); err != nil {
		return policy.Operation{}, err
	}
	if p.To == nil || p.Text == nil || *p.Text == "" {
		return policy.Operation{}, &channel.ParamsError{What: "to and text are required"}
	}
	to, err := peer("to", *p.To)
	if err != nil {
		return policy.Operation{}, err
	}
	op := operation(policy.VerbSend, "send")
	op.To = []policy.Peer{to}
	op.Body = []policy.Text{policy.Text(*p.Text)}
	return op, nil
}

func classifyHistory(params json.RawMessage) (policy.Operation, error) {
	var p historyParams
	if err := channel.DecodeParams(params, &p); err != nil {
		return policy.Operation{}, err
	}
	if p.Peer != nil && p.Chat != nil {
		return policy.Operation{}, &channel.ParamsError{What: "use peer or chat, not both"}
	}
	limit, err := limitOf(p.Limit)
	if err != nil {
		return policy.Operation{}, err
	}
	op := operation(policy.VerbRead, "history")
	op.Detail = Query{Limit: limit}
	if p.Peer == nil {
		p.Peer = p.Chat
	}
	if p.Peer != nil {
		if op.Chat, err = peer("peer", *p.Peer); err != nil {
			return policy.Operation{}, err
		}
	}
	return op, nil
}

func operation(verb policy.Verb, command string) policy.Operation {
	op := policy.Operation{Channel: name, Verb: verb, Command: command, Default: true}
	if !verb.Effect() {
		op.Direction = policy.Inbound
	}
	return op
}

func peer(parameter, text string) (policy.Peer, error) {
	p, err := policy.ParsePeer(name, text, "")
	if err != nil {
		return policy.Peer{}, &channel.ParamsError{What: fmt.Sprintf("parameter %q: %v", parameter, err)}
	}
	return p, nil
}

func limitOf(limit *int) (int, error) {
	if limit == nil {
		return defaultLimit, nil
	}
	if *limit < 1 || *limit > channel.MaxRows {
		return 0, &channel.ParamsError{What: fmt.Sprintf("parameter %q is from 1 to %d", "limit", channel.MaxRows)}
	}
	return *limit, nil
}

// Command implements channel.Channel.
func (*Channel) Command(op policy.Operation) (channel.Command, error) {
	if op.Channel != name || len(op.Files) > 0 {
		return channel.Command{}, &channel.NotPermittedError{What: "this operation on loopback"}
	}
	query, _ := op.Detail.(Query)
	switch {
	case op.Verb == policy.VerbSend && len(op.To) == 1 && op.To[0].Kind() == policy.KindName && len(op.Body) == 1 && op.Body[0] != "" && op.Detail == nil:
		return request("send", sendRequest{To: op.To[0].String(), Text: string(op.Body[0])}), nil
	case op.Verb == policy.VerbRead && len(op.To) == 0 && query.Limit >= 1 && query.Limit <= channel.MaxRows:
		return request("history", historyRequest{Peer: op.Chat.String(), Limit: channel.FetchMessages(query.Limit)}), nil
	case op.Verb == policy.VerbList && len(op.To) == 0 && op.Chat.IsZero() && query.Limit >= 1 && query.Limit <= channel.MaxRows:
		return request("chats", chatsRequest{Limit: channel.FetchChats(query.Limit)}), nil
	}
	return channel.Command{}, &channel.NotPermittedError{What: "this operation on loopback"}
}

func request(method string, params any) channel.Command {
	return channel.Command{Request: &channel.Request{Method: method, Params: params}}
}

// Inbound implements channel.Channel.
func (*Channel) Inbound(op policy.Operation, data []byte) (items []policy.Operation, dropped int, err error) {
	switch op.Verb {
	case policy.VerbRead:
		var answer struct {
			Messages []json.RawMessage `json:"messages"`
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			return nil, 0, fmt.Errorf("read the mailbox: %w", err)
		}
		for _, raw := range answer.Messages {
			item, ok := readMessage(raw)
			if !ok || !op.Chat.IsZero() && item.Chat != op.Chat {
				dropped++
				continue
			}
			item.Command = op.Command
			items = append(items, item)
		}
	case policy.VerbList:
		var answer struct {
			Chats []json.RawMessage `json:"chats"`
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			return nil, 0, fmt.Errorf("read the list of mailboxes: %w", err)
		}
		for _, raw := range answer.Chats {
			item, ok := readRow(raw)
			if !ok {
				dropped++
				continue
			}
			item.Command = op.Command
			items = append(items, item)
		}
	}
	return items, dropped, nil
}

func readMessage(raw json.RawMessage) (policy.Operation, bool) {
	var m channel.Message
	if json.Unmarshal(raw, &m) != nil || m.ID == "" {
		return policy.Operation{}, false
	}
	chat, err := policy.ParsePeer(name, m.Peer, "")
	if err != nil {
		return policy.Operation{}, false
	}
	when, ok := timeOf(m.Time)
	if !ok {
		return policy.Operation{}, false
	}
	op := operation(policy.VerbReceive, "")
	op.Chat = chat
	op.Body = []policy.Text{policy.Text(m.Text)}
	op.Detail = Item{ID: m.ID, Direction: m.Direction, Time: when}
	switch m.Direction {
	case "in":
		op.From = chat
	case "out":
	default:
		return policy.Operation{}, false
	}
	return op, true
}

func readRow(raw json.RawMessage) (policy.Operation, bool) {
	var c channel.Conversation
	if json.Unmarshal(raw, &c) != nil {
		return policy.Operation{}, false
	}
	chat, err := policy.ParsePeer(name, c.Peer, "")
	if err != nil {
		return policy.Operation{}, false
	}
	when, ok := timeOf(c.LastMessageAt)
	if !ok {
		return policy.Operation{}, false
	}
	op := operation(policy.VerbReceive, "")
	op.Chat = chat
	op.Detail = Row{LastMessageAt: when}
	return op, true
}

func timeOf(s string) (string, bool) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return "", false
	}
	return t.UTC().Format(channel.TimeFormat), true
}

// Render implements channel.Channel.
func (*Channel) Render(_ channel.Call, op policy.Operation, r channel.Result) channel.Output {
	if r.Err != nil {
		what, hint := r.Err.Lines(name)
		return channel.Output{Stderr: []byte(what + hint), Exit: channel.ExitFor(r.Err.Code)}
	}
	query, _ := op.Detail.(Query)
	switch op.Verb {
	case policy.VerbSend:
		var sent channel.Sent
		if json.Unmarshal(r.Reply.Data, &sent) != nil || sent.Status != "sent" || !plainID(sent.ID) {
			return channel.Output{Stderr: []byte(name + ": the answer of the messenger was not understood\n"), Exit: channel.ExitFailed}
		}
		return channel.Output{Result: channel.Sent{ID: sent.ID, Status: "sent"}}
	case policy.VerbRead:
		history := channel.History{Messages: []channel.Message{}}
		for _, o := range r.Shown {
			item, ok := o.Detail.(Item)
			if !ok || len(o.Body) != 1 {
				continue
			}
			history.Messages = append(history.Messages, channel.Message{
				ID: item.ID, Channel: name, Direction: item.Direction, Peer: o.Chat.String(),
				From: o.From.String(), Text: string(o.Body[0]), Time: item.Time,
			})
		}
		if over := len(history.Messages) - query.Limit; over > 0 {
			history.Messages = history.Messages[over:]
		}
		return channel.Output{Result: history}
	case policy.VerbList:
		list := channel.Conversations{Chats: []channel.Conversation{}}
		for _, o := range r.Shown {
			if row, ok := o.Detail.(Row); ok && len(list.Chats) < query.Limit {
				list.Chats = append(list.Chats, channel.Conversation{Peer: o.Chat.String(), LastMessageAt: row.LastMessageAt})
			}
		}
		return channel.Output{Result: list}
	}
	return channel.Output{Exit: channel.ExitBug}
}

// plainID reports whether id is one that the messenger makes.
func plainID(id string) bool {
	if len(id) != 16 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
