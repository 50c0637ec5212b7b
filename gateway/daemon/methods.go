package daemon

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// role is what a method asks of its caller. The zero role is nobody's.
type role uint8

const (
	nobody role = iota
	owner       // root or the service user
	client      // a uid of the configuration
	anyone      // either
)

// method is one row of a method table: who may call it, and what it does.
type method struct {
	role   role
	handle func(context.Context, *wire.Conn, *wire.Request) (any, error)
}

// methodTable is a method table with the daemon that knows the callers. A method
// that is not in it does not exist.
type methodTable struct {
	d    *Daemon
	rows map[string]method
}

// Handle implements wire.Handler.
func (t methodTable) Handle(ctx context.Context, c *wire.Conn, r *wire.Request) (any, error) {
	m, ok := t.rows[r.Method]
	if !ok {
		return nil, &wire.Error{Code: wire.CodeMethodNotFound, Message: "method not found"}
	}
	if !t.d.has(c.Identity(), m.role) {
		return nil, &wire.Error{Code: wire.CodeCommand, Message: "this method is not for this user"}
	}
	return m.handle(ctx, c, r)
}

func (d *Daemon) has(who wire.Identity, need role) bool {
	isOwner := who.UID == 0 || who.UID == d.uid
	_, isClient := d.current.Load().clients[who.UID]
	switch need {
	case owner:
		return isOwner
	case client:
		return isClient
	case anyone:
		return isOwner || isClient
	}
	return false
}

// admitClient decides, before a word is read, who may talk on the client
// socket. The group of the socket folder is the outer gate, this the inner.
func (d *Daemon) admitClient(who wire.Identity) error {
	if d.has(who, anyone) {
		return nil
	}
	d.count.attempts.Add(1)
	return &wire.Error{Code: wire.CodeCommand, Message: "this user is not a client of the gateway",
		Data: &wire.ErrorData{Hint: "the owner can add the user under clients: in config.yaml and run: sudo -k carapacectl reload --widen"}}
}

func (d *Daemon) admitAdmin(who wire.Identity) error {
	if d.has(who, owner) {
		return nil
	}
	return &wire.Error{Code: wire.CodeCommand, Message: "the admin socket is for root and the service user"}
}

// allowAttempt bounds how often a uid may ask for anything at all, so that a
// flood of refusals fills no disk. The pieces of a file are bounded by the
// staging area instead.
func (d *Daemon) allowAttempt(who wire.Identity, name string) error {
	// The other methods have their roles in the table; these are not in it,
	// and a connection can outlive its user's place among the clients.
	if strings.HasPrefix(name, "file.") && !d.has(who, client) {
		return &wire.Error{Code: wire.CodeCommand, Message: "this method is not for this user"}
	}
	if name == "file.data" || name == "file.close" || who.UID == 0 || who.UID == d.uid {
		return nil
	}
	if ok, retry := d.attempts.Admit(who.UID); !ok {
		d.count.attempts.Add(1)
		return &wire.Error{Code: wire.CodeRate, Message: "too many calls",
			Data: &wire.ErrorData{RetryAfterMS: retry.Milliseconds() + 1, Hint: fmt.Sprintf("wait %.1f s", retry.Seconds()+0.05)}}
	}
	return nil
}

// clientMethods is everything that can be asked on gateway.sock (interface §5).
func (d *Daemon) clientMethods() methodTable {
	return methodTable{d, map[string]method{
		"ping":                {anyone, d.ping},
		"status":              {anyone, d.clientStatus},
		"call":                {client, d.callTool},
		"channel.send":        {client, d.callChannel("send")},
		"channel.get_history": {client, d.callChannel("get_history")},
		"channel.list_chats":  {client, d.callChannel("list_chats")},
		"channel.status":      {client, d.channelStatus},
		"channel.peers":       {client, d.channelPeers},
	}}
}

type none struct{}

func (d *Daemon) ping(_ context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	if err := wire.Decode(r.Params, &none{}); err != nil {
		return nil, err
	}
	return pong{Pong: true, User: d.userName(), UID: d.uid, Version: wire.Version}, nil
}

type pong struct {
	Pong    bool   `json:"pong"`
	User    string `json:"user"`
	UID     uint32 `json:"uid"`
	Version string `json:"version"`
}

type channelState struct {
	Name  string        `json:"name"`
	State channel.State `json:"state"`
}

func (d *Daemon) clientStatus(_ context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	if err := wire.Decode(r.Params, &none{}); err != nil {
		return nil, err
	}
	locked, _ := d.lock.Locked()
	out := struct {
		Version  string         `json:"version"`
		Locked   bool           `json:"locked"`
		Channels []channelState `json:"channels"`
	}{wire.Version, locked, []channelState{}}
	for _, name := range d.channelNames() {
		if s := d.runner(name).Status(); d.enabled(name) {
			out.Channels = append(out.Channels, channelState{name, s.State})
		}
	}
	return out, nil
}

// callTool is one run of a tool through its shim.
func (d *Daemon) callTool(ctx context.Context, c *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		Channel string   `json:"channel"`
		Argv    []string `json:"argv"`
		Stdin   *string  `json:"stdin,omitempty"` // base64
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	if len(p.Argv) == 0 {
		return nil, &wire.Error{Code: wire.CodeInvalidParams, Message: "argv is empty"}
	}
	call := channel.Call{Argv: p.Argv, Files: filesOf(c)}
	if p.Stdin != nil {
		data, err := base64.StdEncoding.DecodeString(*p.Stdin)
		if err != nil {
			return nil, &wire.Error{Code: wire.CodeInvalidParams, Message: "stdin is not base64"}
		}
		call.Stdin = data
	}
	if _, ok := d.channels[p.Channel]; !ok {
		return nil, errorOf(noChannel())
	}
	a := d.operate(ctx, c.Identity(), p.Channel, call)
	for _, s := range []struct {
		name string
		data []byte
	}{{"stdout", a.out.Stdout}, {"stderr", a.out.Stderr}} {
		if err := sendOutput(c, r.ID, s.name, s.data); err != nil {
			return nil, err
		}
	}
	return struct {
		Exit int `json:"exit"`
	}{a.out.Exit}, nil
}

// chunk keeps one output notification well below the message bound: base64
// makes four bytes of three, and the envelope needs a little.
const chunk = 256 << 10

func sendOutput(c *wire.Conn, id json.RawMessage, stream string, data []byte) error {
	for len(data) > 0 {
		n := min(len(data), chunk)
		err := c.Notify("output", struct {
			Call   json.RawMessage `json:"call"`
			Stream string          `json:"stream"`
			Data   []byte          `json:"data"`
		}{id, stream, data[:n]})
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// callChannel is one request in our own words: the channel's name is taken out
// of the parameters, the rest is the channel's to read.
func (d *Daemon) callChannel(name string) func(context.Context, *wire.Conn, *wire.Request) (any, error) {
	return func(ctx context.Context, c *wire.Conn, r *wire.Request) (any, error) {
		params := map[string]json.RawMessage{}
		if err := wire.Decode(r.Params, &params); err != nil {
			return nil, err
		}
		var to string
		if err := json.Unmarshal(params["channel"], &to); err != nil {
			return nil, &wire.Error{Code: wire.CodeInvalidParams, Message: "channel must be a string"}
		}
		delete(params, "channel")
		rest, err := json.Marshal(params)
		if err != nil {
			return nil, err
		}
		a := d.operate(ctx, c.Identity(), to, channel.Call{Method: name, Params: rest, Files: filesOf(c)})
		switch {
		case a.refusal != nil:
			return nil, errorOf(a.refusal)
		case a.usage != nil:
			return nil, &wire.Error{Code: wire.CodeInvalidParams, Message: a.usage.Text}
		}
		return a.out.Result, nil
	}
}

func (d *Daemon) channelStatus(_ context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		Channel string `json:"channel"`
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	if _, ok := d.channels[p.Channel]; !ok {
		return nil, errorOf(noChannel())
	}
	return channelState{p.Channel, d.runner(p.Channel).Status().State}, nil
}

// channelPeers tells a client whom it may write to and hear from. It is the
// one place where lists leave the gateway, and they are the client's own.
func (d *Daemon) channelPeers(_ context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		Channel string `json:"channel"`
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	if _, ok := d.channels[p.Channel]; !ok {
		return nil, errorOf(noChannel())
	}
	if err := d.ready(); err != nil {
		return nil, &wire.Error{Code: wire.CodeLocked, Message: err.Error(), Data: &wire.ErrorData{Hint: "the owner can run: sudo -k carapacectl unlock"}}
	}
	out := struct {
		Outbound []string `json:"outbound"`
		Inbound  []string `json:"inbound"`
	}{[]string{}, []string{}}
	if c := d.current.Load().config.Policy.Channels[p.Channel]; c != nil && c.Enabled {
		out.Outbound, out.Inbound = permitted(c.Outbound), permitted(c.Inbound)
	}
	return out, nil
}

// permitted lists the allow entries of a list. An open or deny list has none to
// show: "*" says that it is not a list of people.
func permitted(l policy.List) []string {
	if l.Mode != policy.Allowlist {
		return []string{"*"}
	}
	out := []string{}
	for _, e := range l.Allow {
		out = append(out, e.Pattern.String())
	}
	sort.Strings(out)
	return out
}

func noChannel() *channel.Refusal {
	return &channel.Refusal{Code: wire.CodeUnavailable, Reason: "no such channel", Hint: "carapacectl channels lists them"}
}

func filesOf(c *wire.Conn) map[string]policy.File {
	staged := c.Files().All()
	files := make(map[string]policy.File, len(staged))
	for handle, f := range staged {
		files[handle] = policy.File{Handle: handle, Name: f.Name, Size: f.Size, SHA256: f.SHA256, Path: f.Path}
	}
	return files
}

func (d *Daemon) channelNames() []string {
	names := make([]string, 0, len(d.channels))
	for name := range d.channels {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (d *Daemon) enabled(name string) bool {
	c := d.current.Load().config.Policy.Channels[name]
	return c != nil && c.Enabled
}
