package imsg

import (
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Send is the Detail of a VerbSend. Its zero value is a plain send.
type Send struct {
	Service string // "auto", "imessage", "sms"
	Target  Target // what Resolve must still find out; zero afterwards
}

// Target names a conversation by a word that only the tool's database can
// translate.
type Target struct {
	ChatID     int64  // row id, valid in one database; 0: none
	Identifier string // "chat700", a group without its service; "": none
	// Unknown says that the database has no such conversation. The operation
	// is judged all the same, as a message to a conversation that is on no
	// list: a client must not learn from the answer which conversations exist
	// besides those it may see.
	Unknown bool
}

// sendRequest is the request `send` of `imsg rpc`. Exactly one of To and
// ChatGUID is set. Transport is always AppleScript, which is what the command
// line uses too: with "auto", imsg 0.9 tries a second way after a failed first
// one, and can deliver twice (contracts/imsg.md §4.1).
type sendRequest struct {
	To        string `json:"to,omitempty"`
	ChatGUID  string `json:"chat_guid,omitempty"`
	Text      string `json:"text,omitempty"`
	File      string `json:"file,omitempty"`
	Service   string `json:"service"`
	Transport string `json:"transport"`
}

// classifySend reads the options of `imsg send` in the order in which the tool
// looks at them; what only we object to comes last.
func (c *Channel) classifySend(o options, call channel.Call) (policy.Operation, error) {
	to, identifier, guid := o.text("to"), o.text("chat-identifier"), o.text("chat-guid")
	id, byID := o.integer("chat-id")
	chat := byID || identifier != "" || guid != ""
	switch {
	case chat && to != "":
		return policy.Operation{}, usage("Invalid value for option: --to")
	case !chat && to == "":
		return policy.Operation{}, usage("Missing required option: --to")
	case o.text("text") == "" && o.text("file") == "":
		return policy.Operation{}, usage("Missing required option: --text or file")
	}
	service := "auto"
	if s, ok := o.last("service"); ok {
		service = s
	}
	if !knownService(service) {
		return policy.Operation{}, usage("Invalid service: %s", service)
	}

	op := operation(policy.VerbSend, "send")
	detail := Send{Service: service}
	var peer policy.Peer
	var err error
	switch {
	case byID:
		// The tool lets the row of the database win over an identifier or guid
		// given with it.
		if id <= 0 {
			return policy.Operation{}, usage("Invalid chat target: Unknown chat id %d", id)
		}
		detail.Target.ChatID = id
	case chat:
		peer, detail, err = c.conversation(identifier, guid, detail)
	default:
		region := strings.ToUpper(o.text("region"))
		if region == "" {
			region = c.region
		}
		peer, err = c.recipient(to, region)
	}
	if err != nil {
		return policy.Operation{}, err
	}
	address(&op, peer)
	op.Detail = detail
	if text := o.text("text"); text != "" {
		op.Body = []policy.Text{policy.Text(text)}
	}
	if handle := o.text("file"); handle != "" {
		file, ok := call.Files[handle]
		if !ok || !filepath.IsAbs(file.Path) {
			return policy.Operation{}, &channel.NotPermittedError{What: "option --file with a file that was not transferred"}
		}
		file.Handle = handle
		op.Files = []policy.File{file}
	}
	return op, nil
}

// address makes peer the one recipient of op.
func address(op *policy.Operation, peer policy.Peer) {
	if peer.IsZero() {
		return
	}
	op.To = []policy.Peer{peer}
	op.Group = peer.Kind() == policy.KindChat
}

func knownService(s string) bool { return s == "auto" || s == "imessage" || s == "sms" }

// recipient reads --to: a phone number or an e-mail address and nothing else.
func (c *Channel) recipient(text, region string) (policy.Peer, error) {
	text = strings.TrimSpace(text)
	if strings.ContainsAny(text, ";:") {
		return policy.Peer{}, notAPeer("a recipient that is no phone number or e-mail address", nil)
	}
	peer, err := policy.ParsePeer(name, text, region)
	if err != nil || peer.Kind() != policy.KindPhone && peer.Kind() != policy.KindEmail {
		return policy.Peer{}, notAPeer("a recipient that is no phone number or e-mail address", err)
	}
	return peer, nil
}

// conversation reads --chat-identifier and --chat-guid. Of the two, imsg takes
// the identifier when it looks like a person and the guid otherwise; here they
// must mean the same.
func (c *Channel) conversation(identifier, guid string, detail Send) (policy.Peer, Send, error) {
	different := &channel.NotPermittedError{What: "--chat-identifier and --chat-guid of different chats"}
	var byGUID policy.Peer
	if guid != "" {
		peer, err := c.byGUID(guid)
		if err != nil {
			return policy.Peer{}, detail, err
		}
		byGUID = peer
		// To this chat the tool sends whatever its service says.
		if strings.HasPrefix(guid, "SMS;-;") {
			detail.Service = "sms"
		}
	}
	if identifier == "" {
		return byGUID, detail, nil
	}
	if !looksLikeHandle(identifier) && !strings.Contains(identifier, ";") {
		// chat700: the tool knows its service.
		if !plainWord(identifier) {
			return policy.Peer{}, detail, &channel.NotPermittedError{What: "this chat identifier"}
		}
		if guid == "" {
			detail.Target.Identifier = identifier
			return policy.Peer{}, detail, nil
		}
		if byGUID.Kind() != policy.KindChat || tail(byGUID.ID()) != identifier {
			return policy.Peer{}, detail, different
		}
		return byGUID, detail, nil
	}
	peer, err := c.byGUID(identifier)
	if err != nil {
		return policy.Peer{}, detail, err
	}
	if guid != "" && peer.Base() != byGUID.Base() {
		return policy.Peer{}, detail, different
	}
	if guid == "" && strings.HasPrefix(identifier, "SMS;-;") {
		detail.Service = "sms"
	}
	return peer, detail, nil
}

// byGUID reads a chat guid, or a handle where the tool takes one in its place.
func (c *Channel) byGUID(text string) (policy.Peer, error) {
	text = strings.TrimSpace(text)
	if strings.Contains(text, ":") {
		return policy.Peer{}, &channel.NotPermittedError{What: "a chat with a service prefix"}
	}
	peer, err := policy.ParsePeer(name, text, c.region)
	if err != nil {
		return policy.Peer{}, notAPeer("this chat", err)
	}
	return peer, nil
}

// notAPeer says why a recipient is refused, without repeating it.
func notAPeer(what string, err error) error {
	if err != nil {
		what += " (" + err.Error() + ")"
	}
	return &channel.NotPermittedError{What: what, Hint: "name the phone number with its country code, or the e-mail address"}
}

// looksLikeHandle is the tool's own test for an identifier that it would send
// to as to a person (contracts/imsg.md §3.1, 4).
func looksLikeHandle(s string) bool {
	s = strings.ToLower(strings.TrimSpace(s))
	for _, prefix := range []string{"imessage:", "sms:", "auto:"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return s != "" && (strings.Contains(s, "@") || strings.Trim(s, "+0123456789 ()-") == "")
}

// plainWord reports whether s can be the last part of a group's guid.
func plainWord(s string) bool {
	_, err := policy.ParsePeer(name, "any;+;"+s, "")
	return err == nil
}

// tail is the part of a group's guid after its service.
func tail(guid string) string {
	_, id, _ := strings.Cut(guid, ";+;")
	return id
}

func commandSend(op policy.Operation) (channel.Command, error) {
	detail, ok := op.Detail.(Send)
	if !ok || op.Command != "send" || !knownService(detail.Service) || len(op.Body) > 1 || len(op.Files) > 1 || len(op.Body)+len(op.Files) == 0 {
		return channel.Command{}, errStrange
	}
	if detail.Target.Unknown {
		return channel.Command{}, unknownChat(op)
	}
	if detail.Target != (Target{}) || len(op.To) != 1 {
		return channel.Command{}, errStrange
	}
	r := sendRequest{Service: detail.Service, Transport: "applescript"}
	switch to := op.To[0]; to.Kind() {
	case policy.KindPhone, policy.KindEmail:
		r.To = to.String()
	case policy.KindChat:
		r.ChatGUID = to.ID()
	default:
		return channel.Command{}, errStrange
	}
	for _, text := range op.Body {
		if text == "" || !utf8.ValidString(string(text)) {
			return channel.Command{}, errStrange
		}
		r.Text = string(text)
	}
	for _, file := range op.Files {
		if !filepath.IsAbs(file.Path) {
			return channel.Command{}, errStrange
		}
		r.File = file.Path
	}
	return request("send", r), nil
}
