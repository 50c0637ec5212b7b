package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// rpcError is an error of the protocol; detail goes into its data.
type rpcError struct {
	code    int
	message string
	detail  string
}

func (e *rpcError) Error() string { return e.detail }

func invalid(format string, args ...any) error {
	return &rpcError{-32602, "Invalid params", fmt.Sprintf(format, args...)}
}

const noDatabase = "authorization denied (code: 23)\n\n⚠️  Permission Error: Cannot access Messages database\n\n" +
	"The Messages database at /Users/carapace/Library/Messages/chat.db requires Full Disk Access permission."

// bridged are the methods of 0.9 that need the injected library.
var bridged = map[string]bool{
	"send.rich": true, "send.attachment": true, "tapback": true, "typing": true, "read": true, "message.edit": true,
	"message.unsend": true, "message.delete": true, "message.notifyAnyways": true, "chats.create": true, "chats.delete": true,
	"chats.markUnread": true, "group.rename": true, "group.setIcon": true, "group.addParticipant": true,
	"group.removeParticipant": true, "group.leave": true,
}

// rpc answers one line after the other, strictly in order, until the end of
// the input.
func (t *tool) rpc(in io.Reader, out io.Writer) error {
	closed := t.fault("nodb") != ""
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if answer := t.answer(line, out, closed); answer != nil {
				if _, err := out.Write(append(encode(answer, true), '\n')); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			if closed {
				return exitCode(1)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// answer returns what is written for one line; nil is nothing.
func (t *tool) answer(line []byte, out io.Writer, closed bool) map[string]any {
	id, method, params, err := request(line)
	var result any
	if err == nil {
		t.before(out)
		switch {
		case closed:
			err = &rpcError{-32603, "Internal error", noDatabase}
		default:
			result, err = t.call(method, params)
		}
	}
	if err == nil && id == nil {
		return nil
	}
	if err != nil {
		var e *rpcError
		if !errors.As(err, &e) {
			e = &rpcError{-32603, "Internal error", err.Error()}
		}
		fault := map[string]any{"code": e.code, "message": e.message}
		if e.detail != "" {
			fault["data"] = e.detail
		}
		// Even what has no id is answered when it fails.
		return map[string]any{"jsonrpc": "2.0", "id": id, "error": fault}
	}
	if t.fault("wrong-id") != "" {
		id = json.RawMessage("987654321")
	}
	return map[string]any{"jsonrpc": "2.0", "id": id, "result": result}
}

// request reads one line with the tool's leniency: no version is a version,
// parameters that are no object are none.
func request(line []byte) (id json.RawMessage, method string, params map[string]any, err error) {
	if !json.Valid(line) {
		return nil, "", nil, &rpcError{-32700, "Parse error", "The data couldn’t be read because it isn’t in the correct format."}
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(line, &m) != nil || m == nil {
		return nil, "", nil, &rpcError{-32600, "Invalid Request", "request must be an object"}
	}
	id = m["id"]
	var version string
	if json.Unmarshal(m["jsonrpc"], &version) == nil && m["jsonrpc"] != nil && version != "2.0" {
		return id, "", nil, &rpcError{-32600, "Invalid Request", "jsonrpc must be 2.0"}
	}
	if json.Unmarshal(m["method"], &method) != nil || method == "" {
		return id, "", nil, &rpcError{-32600, "Invalid Request", "method is required"}
	}
	dec := json.NewDecoder(bytes.NewReader(m["params"]))
	dec.UseNumber()
	if dec.Decode(&params) != nil || params == nil {
		params = map[string]any{}
	}
	return id, method, params, nil
}

func (t *tool) call(method string, p map[string]any) (any, error) {
	switch method {
	case "chats.list":
		limit := max(intOf(p["limit"], 20), 1)
		rows := []any{}
		for _, c := range t.Chats[:min(limit, len(t.Chats))] {
			rows = append(rows, t.chatRow(c))
		}
		return map[string]any{"chats": rows}, nil
	case "messages.history":
		return t.rpcHistory(p)
	case "send":
		return t.rpcSend(p)
	case "watch.unsubscribe":
		if _, ok := number64(p["subscription"]); !ok {
			return nil, invalid("subscription is required")
		}
		return map[string]any{"ok": true}, nil
	}
	if bridged[method] {
		return nil, errors.New("imsg bridge not ready: run imsg launch")
	}
	return nil, &rpcError{-32601, "Method not found", method}
}

func (t *tool) rpcHistory(p map[string]any) (any, error) {
	id, ok := number64(p["chat_id"])
	if !ok {
		return nil, invalid("chat_id is required")
	}
	var f filter
	switch v := p["participants"].(type) {
	case []any:
		for _, one := range v {
			f.people = append(f.people, textOf(one))
		}
	case string:
		for one := range strings.SplitSeq(v, ",") {
			if one = strings.TrimSpace(one); one != "" {
				f.people = append(f.people, one)
			}
		}
	}
	for key, at := range map[string]**time.Time{"start": &f.start, "end": &f.end} {
		if p[key] == nil {
			continue
		}
		when, err := time.Parse(time.RFC3339, textOf(p[key]))
		if err != nil {
			return nil, fmt.Errorf("Invalid ISO8601 date: %s", textOf(p[key]))
		}
		*at = &when
	}
	rows := []any{}
	for _, m := range t.messages(id, max(intOf(p["limit"], 50), 1), f) {
		rows = append(rows, t.messageRow(m, truth(p["attachments"])))
	}
	return map[string]any{"messages": rows}, nil
}

func (t *tool) rpcSend(p map[string]any) (any, error) {
	m := message{text: textOf(p["text"]), file: textOf(p["file"]), service: "auto", region: "US"}
	m.to, m.identifier, m.guid = textOf(p["to"]), textOf(p["chat_identifier"]), textOf(p["chat_guid"])
	if id, ok := number64(p["chat_id"]); ok {
		m.chatID = &id
	}
	if p["service"] != nil {
		m.service = textOf(p["service"])
	}
	if p["region"] != nil {
		m.region = textOf(p["region"])
	}
	if m.service != "auto" && m.service != "imessage" && m.service != "sms" {
		return nil, invalid("invalid service")
	}
	transport := strings.ToLower(textOf(p["transport"]))
	switch transport {
	case "", "auto", "applescript", "bridge":
	default:
		return nil, invalid("invalid transport")
	}
	switch {
	case m.chat() && m.to != "":
		return nil, invalid("use to or chat_*; not both")
	case !m.chat() && m.to == "":
		return nil, invalid("to is required for direct sends")
	}
	if !m.chat() && contactName(m.to) {
		handle, err := t.lookUp(m.to)
		if err != nil {
			return nil, invalid("%v", err)
		}
		m.to = handle
	}
	if m.text == "" && m.file == "" {
		return nil, invalid("text or file is required")
	}
	if m.chatID != nil {
		chat := t.chatByID(*m.chatID)
		if chat == nil {
			return nil, invalid("unknown chat_id %d", *m.chatID)
		}
		m.identifier, m.guid = chat.Identifier, chat.GUID
	}
	if transport == "bridge" {
		return nil, errors.New("imsg bridge not ready: run imsg launch")
	}
	id, guid, err := t.perform(m)
	if err != nil {
		return nil, err
	}
	result := map[string]any{"ok": true, "transport": "applescript"}
	// Only a send to a chat is looked up afterwards.
	if m.chat() {
		result["id"], result["guid"] = id, guid
	}
	return result, nil
}

// The tool's coercions.

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		if v {
			return "1"
		}
		return "0"
	}
	return ""
}

func number64(v any) (int64, bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Float64()
		return int64(n), err == nil
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		return n, err == nil
	}
	return 0, false
}

func intOf(v any, otherwise int) int {
	if n, ok := number64(v); ok {
		return int(n)
	}
	return otherwise
}

func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case json.Number:
		return v.String() != "0"
	case string:
		return v == "true"
	}
	return false
}
