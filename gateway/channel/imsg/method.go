package imsg

import (
	"fmt"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// What our own methods take (interface §5).
type (
	sendParams struct {
		To   *string `json:"to"`
		Text *string `json:"text"`
	}
	historyParams struct {
		Peer   *string `json:"peer"`
		Chat   *string `json:"chat"`
		ChatID *int64  `json:"chat_id"`
		Limit  *int    `json:"limit"`
	}
	chatsParams struct {
		Limit *int `json:"limit"`
	}
)

func (c *Channel) classifyMethod(call channel.Call) (policy.Operation, error) {
	switch call.Method {
	case "send":
		var p sendParams
		if err := channel.DecodeParams(call.Params, &p); err != nil {
			return policy.Operation{}, err
		}
		if p.To == nil || p.Text == nil || *p.Text == "" {
			return policy.Operation{}, &channel.ParamsError{What: "to and text are required"}
		}
		peer, err := c.peer("to", *p.To)
		if err != nil {
			return policy.Operation{}, err
		}
		op := operation(policy.VerbSend, "send")
		address(&op, peer)
		op.Body = []policy.Text{policy.Text(*p.Text)}
		op.Detail = Send{Service: "auto"}
		return op, nil
	case "get_history":
		return c.classifyGetHistory(call)
	case "list_chats":
		var p chatsParams
		if err := channel.DecodeParams(call.Params, &p); err != nil {
			return policy.Operation{}, err
		}
		limit, err := limitParam(p.Limit, defaultChats)
		if err != nil {
			return policy.Operation{}, err
		}
		op := operation(policy.VerbList, "chats")
		op.Detail = Chats{Limit: limit}
		return op, nil
	}
	return policy.Operation{}, &channel.NotPermittedError{What: fmt.Sprintf("method %q", call.Method)}
}

func (c *Channel) classifyGetHistory(call channel.Call) (policy.Operation, error) {
	var p historyParams
	if err := channel.DecodeParams(call.Params, &p); err != nil {
		return policy.Operation{}, err
	}
	given := 0
	for _, set := range []bool{p.Peer != nil, p.Chat != nil, p.ChatID != nil} {
		if set {
			given++
		}
	}
	if given != 1 {
		return policy.Operation{}, &channel.ParamsError{What: "one of peer, chat and chat_id is required"}
	}
	limit, err := limitParam(p.Limit, defaultMessages)
	if err != nil {
		return policy.Operation{}, err
	}
	op := operation(policy.VerbRead, "history")
	detail := History{Limit: limit}
	if p.ChatID != nil {
		if detail.Target.ChatID = *p.ChatID; *p.ChatID <= 0 {
			return policy.Operation{}, &channel.ParamsError{What: `parameter "chat_id" is positive`}
		}
	} else {
		word := p.Peer
		if word == nil {
			word = p.Chat
		}
		if op.Chat, err = c.peer("peer", *word); err != nil {
			return policy.Operation{}, err
		}
		op.Group = op.Chat.Kind() == policy.KindChat
	}
	op.Detail = detail
	return op, nil
}

// peer reads a parameter that names a person or a conversation.
func (c *Channel) peer(parameter, text string) (policy.Peer, error) {
	peer, err := policy.ParsePeer(name, text, c.region)
	if err != nil {
		return policy.Peer{}, &channel.ParamsError{What: fmt.Sprintf("parameter %q: %v", parameter, err)}
	}
	return peer, nil
}

func limitParam(limit *int, otherwise int) (int, error) {
	if limit == nil {
		return otherwise, nil
	}
	if *limit < 1 || *limit > channel.MaxRows {
		return 0, &channel.ParamsError{What: fmt.Sprintf("parameter %q is from 1 to %d", "limit", channel.MaxRows)}
	}
	return *limit, nil
}
