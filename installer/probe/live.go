package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// The reserved peers (interface §3), and what is sent to them.
const (
	peerOK       = "verify-ok"
	peerStranger = "verify-stranger"
	messengerOf  = "loopback"
	letter       = "carapace-setup verify: is anybody there?"
)

// identify connects to a socket, asks the kernel who listens, and hangs up
// without a word. Connecting opens no file, whoever owns the folder.
func identify(socket string) (wire.Identity, error) {
	if socket == "" {
		return wire.Identity{}, errors.New("no socket is known")
	}
	c, err := net.DialTimeout("unix", socket, attemptTime)
	if err != nil {
		return wire.Identity{}, err
	}
	defer c.Close()
	return wire.PeerOf(c.(*net.UnixConn))
}

// wrongServer is the Errno of a gateway that is not the service user's. It is
// no name of the kernel's.
const wrongServer = "wrong server"

// asked turns the answer of the gateway into a result.
func asked(err error) result {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		r := result{Code: e.Code, Text: e.Message}
		if e.Data != nil {
			r.ID = e.Data.ID
		}
		return r
	}
	if errors.Is(err, wire.ErrWrongServer) {
		return result{Errno: wrongServer, Text: err.Error()}
	}
	return failed(err)
}

// converse is one short talk of the child with the gateway, as a client has
// it: through the documented library, which checks the server's uid first.
func converse(o op, method string, params, answer any) error {
	ctx, cancel := context.WithTimeout(context.Background(), attemptTime)
	defer cancel()
	c, err := wire.Dial(ctx, wire.ClientOptions{Socket: o.Path, ServerUID: o.UID})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, method, params, answer)
}

func tryPing(o op) result {
	var pong struct {
		Pong    bool   `json:"pong"`
		UID     uint32 `json:"uid"`
		Version string `json:"version"`
	}
	err := converse(o, "ping", nil, &pong)
	switch {
	case err != nil:
		return asked(err)
	case !pong.Pong:
		return result{Errno: "?", Text: "the answer to ping is no pong"}
	}
	return result{UID: pong.UID, Text: pong.Version}
}

func trySend(o op) result {
	if len(o.Args) != 2 {
		return result{Errno: "?", Text: "nobody to write to"}
	}
	type message struct {
		Channel string `json:"channel"`
		To      string `json:"to"`
		Text    string `json:"text"`
	}
	return asked(converse(o, "channel.send", message{messengerOf, o.Args[0], o.Args[1]}, nil))
}

// startRemedy is how the gateway is started here.
func (v *verifier) startRemedy() string {
	switch {
	case v.t.StartedByHand:
		return fmt.Sprintf("sudo -k carapace-setup rundir, then as %s: %s", v.t.ServiceUser, filepath.Join(v.t.Paths.Libexec, "carapaced"))
	case v.t.OS == MacOS:
		return "sudo -k launchctl kickstart system/ai.carapace.gateway; " + filepath.Join("/Library/Logs/Carapace", "gateway.log") + " says why it ended"
	}
	return "sudo -k systemctl start carapace.service; journalctl -u carapace says why it ended"
}

// away is the outcome of a check that needs a gateway where none is.
func (v *verifier) away() (outcome, bool) {
	err := v.serverErr
	switch {
	case err == nil:
		return outcome{}, false
	case errors.Is(err, unix.EACCES):
		return fail("this session may not reach the socket",
			"it may be older than the membership in "+v.t.clientGroup()+": log out and in again; `id` must name the group"), true
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return unknown("the gateway is not running: "+said(err.Error()), v.startRemedy()), true
	}
	return unknown("the gateway cannot be reached: "+said(err.Error()), v.startRemedy()), true
}

// gatewayOp is an op that talks to the gateway.
func (v *verifier) gatewayOp(do string, args ...string) op {
	return op{Do: do, Path: v.t.Facts.Socket, UID: v.t.Facts.ServiceUID, Args: args}
}

// talk runs one such op as the client. The outcome counts only when done.
func (v *verifier) talk(ctx context.Context, o op) (r result, pid int, out outcome, done bool) {
	if out, away := v.away(); away {
		return result{}, 0, out, true
	}
	ans, err := v.ask(ctx, v.t.client(), []op{o})
	if err != nil {
		return result{}, 0, v.couldNot(err), true
	}
	r = ans.Results[0]
	switch {
	case r.Errno == wrongServer:
		return r, ans.PID, fail(said(r.Text), "something else answers at "+v.t.Facts.Socket+": find out what listens there"), true
	case r.Errno == "EACCES":
		return r, ans.PID, fail("the client may not reach the socket", "sudo -k carapace-setup repair"), true
	case r.Errno != "":
		return r, ans.PID, fail("the gateway gave no answer: "+described(r), v.startRemedy()), true
	case r.Code == wire.CodeRate:
		return r, ans.PID, unknown("the gateway is busy with this client: "+said(r.Text), "try again in a minute"), true
	case r.Code == wire.CodeLocked:
		return r, ans.PID, unknown("the gateway is locked", "sudo -k carapacectl unlock, when the reason for the lock is gone"), true
	}
	return r, ans.PID, outcome{}, false
}

// checkLive is the whole path of a message, taken by the client: one that may
// pass and one that may not, and the traces of both.
func (v *verifier) checkLive(ctx context.Context) {
	v.add(ctx, Check{ID: "live.peer", Title: "who listens at the socket is the service user", Severity: Critical}, func(context.Context) outcome {
		if o, away := v.away(); away {
			return o
		}
		if v.server.UID != v.t.Facts.ServiceUID {
			return fail(fmt.Sprintf("uid %d listens (process %d), not %d", v.server.UID, v.server.PID, v.t.Facts.ServiceUID),
				"end that process, find out who started it, and start the gateway as "+v.t.ServiceUser)
		}
		return pass(fmt.Sprintf("the kernel says uid %d, process %d", v.server.UID, v.server.PID))
	})
	v.add(ctx, Check{ID: "live.ping", Title: "the client is answered by the gateway", Severity: Critical}, func(ctx context.Context) outcome {
		r, _, o, done := v.talk(ctx, v.gatewayOp(doPing))
		switch {
		case done:
			return o
		case r.Code != 0:
			return fail("the gateway refused: "+said(r.Text), "add the client under clients: in the configuration, then: sudo -k carapacectl reload --widen")
		case r.UID != v.t.Facts.ServiceUID:
			return fail(fmt.Sprintf("the gateway says it runs as uid %d", r.UID), v.startRemedy())
		}
		return pass("pong from uid " + fmt.Sprint(r.UID) + ", version " + said(r.Text))
	})

	var okPID, strangerPID int
	var refusedID string
	v.add(ctx, Check{ID: "live.send", Title: "a message that may pass arrives", Severity: Critical}, func(ctx context.Context) outcome {
		r, pid, o, done := v.talk(ctx, v.gatewayOp(doSend, peerOK, letter))
		switch {
		case done:
			return o
		case r.Code != 0:
			return fail(fmt.Sprintf("refused with %d: %s", r.Code, said(r.Text)), "sudo -k carapacectl policy explain --channel loopback --to "+peerOK+" --text x")
		}
		okPID = pid
		return pass("the gateway delivered it to " + peerOK)
	})
	v.add(ctx, Check{ID: "live.refused", Title: "a message to a stranger is refused", Severity: Critical}, func(ctx context.Context) outcome {
		r, pid, o, done := v.talk(ctx, v.gatewayOp(doSend, peerStranger, letter))
		const explain = "sudo -k carapacectl policy explain --channel loopback --to " + peerStranger + " --text x says which rule decides"
		switch {
		case done:
			return o
		case r.Code == 0:
			return fail("the message was accepted", explain)
		case r.Code != wire.CodeDenied:
			return fail(fmt.Sprintf("refused with %d (%s), not with %d", r.Code, said(r.Text), wire.CodeDenied), explain)
		}
		strangerPID, refusedID = pid, r.ID
		return pass(fmt.Sprintf("refused with %d, dead letter %s", r.Code, said(r.ID)))
	})

	v.addRoot(ctx, Check{ID: "live.queue", Title: "the refused message is among the dead letters", Severity: Critical}, func(ctx context.Context) outcome {
		if o, away := v.away(); away {
			return o
		}
		if refusedID == "" {
			return unknown("no message was refused with an id to look for", "")
		}
		return v.queued(ctx, refusedID)
	})
	v.addRoot(ctx, Check{ID: "live.audit", Title: "the audit log tells of both messages", Severity: Critical}, func(ctx context.Context) outcome {
		if o, away := v.away(); away {
			return o
		}
		if okPID == 0 || strangerPID == 0 {
			return unknown("not both messages were sent", "")
		}
		return v.audited(ctx, okPID, strangerPID, refusedID)
	})
}

// admin asks the gateway as the owner.
func (v *verifier) admin(ctx context.Context, method string, params, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, childTime)
	defer cancel()
	c, err := wire.Dial(ctx, wire.ClientOptions{Socket: v.t.Facts.AdminSocket, ServerUID: v.t.Facts.ServiceUID})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, method, params, answer)
}

func (v *verifier) queued(ctx context.Context, id string) outcome {
	var queue struct {
		Letters []struct {
			ID string `json:"id"`
		} `json:"letters"`
	}
	if err := v.admin(ctx, "queue.list", struct{}{}, &queue); err != nil {
		return unknown("the queue could not be read: "+said(err.Error()), "sudo -k carapacectl queue list")
	}
	for _, l := range queue.Letters {
		if l.ID == id {
			return pass("dead letter " + said(id))
		}
	}
	return fail(fmt.Sprintf("no dead letter %s among %d", said(id), len(queue.Letters)), "sudo -k carapacectl queue list; the state folder may be full")
}

// record is what is looked at of an audit record.
type record struct {
	Kind      string          `json:"kind"`
	ID        string          `json:"id"`
	ClientUID *uint32         `json:"client_uid"`
	PID       int             `json:"pid"`
	Channel   string          `json:"channel"`
	Exit      json.RawMessage `json:"exit"`
}

// audited looks for the two messages by the process that sent each, which the
// kernel named to the gateway: the records may hold peers as hashes only.
func (v *verifier) audited(ctx context.Context, okPID, strangerPID int, refusedID string) outcome {
	const remedy = "sudo -k carapacectl audit verify; sudo -k carapacectl audit show"
	var missing string
	// The outcome is recorded in order, and durable a moment later.
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		var log struct {
			Records []record `json:"records"`
		}
		err := v.admin(ctx, "audit.show", struct {
			Tail int `json:"tail"`
		}{200}, &log)
		if err != nil {
			return unknown("the audit log could not be read: "+said(err.Error()), remedy)
		}
		if missing = v.untold(log.Records, okPID, strangerPID, refusedID); missing == "" {
			return pass("intent, outcome and refusal are recorded")
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fail(missing, remedy)
		}
	}
}

// untold names what the records do not tell of the two messages.
func (v *verifier) untold(records []record, okPID, strangerPID int, refusedID string) string {
	intent := ""
	outcome, refused := false, false
	for _, r := range records {
		if r.ClientUID == nil || *r.ClientUID != v.t.ClientUID || r.Channel != messengerOf {
			continue
		}
		switch {
		case r.PID == okPID && r.Kind == "intent":
			intent = r.ID
		case r.Kind == "outcome" && intent != "" && r.ID == intent:
			outcome = len(r.Exit) == 0 || string(r.Exit) == "0" || string(r.Exit) == "null"
		case r.Kind == "refused" && r.PID == strangerPID && (refusedID == "" || r.ID == refusedID):
			refused = true
		}
	}
	switch {
	case intent == "":
		return "no record says that the allowed message was about to be sent"
	case !outcome:
		return "no record says that the allowed message arrived"
	case !refused:
		return "no record says that the other message was refused"
	}
	return ""
}
