package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// adminMethods is everything that can be asked on admin.sock.
func (d *Daemon) adminMethods() methodTable {
	return methodTable{d, map[string]method{
		"ping":         {owner, d.ping},
		"status":       {owner, d.adminStatus},
		"metrics":      {owner, d.metrics},
		"queue.list":   {owner, d.queueList},
		"queue.show":   {owner, d.queueShow},
		"queue.purge":  {owner, d.queuePurge},
		"audit.show":   {owner, d.auditShow},
		"audit.verify": {owner, d.auditVerify},
		"reload":       {owner, d.adminReload},
		"lock":         {owner, d.adminLock},
		"unlock":       {owner, d.adminUnlock},
	}}
}

// adminStatus is interface §9.
func (d *Daemon) adminStatus(_ context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	if err := wire.Decode(r.Params, &none{}); err != nil {
		return nil, err
	}
	type state struct {
		Name string `json:"name"`
		channel.Status
	}
	now := d.current.Load()
	locked, reason := d.lock.Locked()
	records, head := d.audit.Head()
	out := struct {
		Version       string           `json:"version"`
		UptimeS       int64            `json:"uptime_s"`
		Locked        bool             `json:"locked"`
		LockReason    string           `json:"lock_reason,omitempty"`
		PolicySHA256  string           `json:"policy_sha256"`
		PolicyRefused string           `json:"policy_refused,omitempty"`
		AuditError    string           `json:"audit_error,omitempty"`
		AuditRecords  uint64           `json:"audit_records"`
		AuditHead     string           `json:"audit_head"`
		Clients       []string         `json:"clients"`
		Channels      []state          `json:"channels"`
		Counters      map[string]int64 `json:"counters"`
	}{
		Version: wire.Version, UptimeS: int64(time.Since(d.started).Seconds()), Locked: locked, LockReason: reason,
		PolicySHA256: now.config.Policy.SHA256, PolicyRefused: now.refused, AuditRecords: records, AuditHead: head,
		Clients: append([]string{}, now.config.Clients...), Channels: []state{}, Counters: d.counterMap(),
	}
	if err := d.audit.Err(); err != nil {
		out.AuditError = err.Error()
	}
	for _, name := range d.channelNames() {
		s := d.runner(name).Status()
		if !d.enabled(name) {
			s = channel.Status{State: channel.StateDisabled}
		}
		out.Channels = append(out.Channels, state{name, s})
	}
	return out, nil
}

func (d *Daemon) counterMap() map[string]int64 {
	return map[string]int64{
		"sent": d.count.sent.Load(), "refused": d.count.refused.Load(), "held": d.count.held.Load(),
		"dropped": d.count.dropped.Load(), "unrecorded": d.count.unrecorded.Load(), "attempts": d.count.attempts.Load(),
	}
}

func (d *Daemon) metrics(_ context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	if err := wire.Decode(r.Params, &none{}); err != nil {
		return nil, err
	}
	return struct {
		Counters map[string]int64 `json:"counters"`
	}{d.counterMap()}, nil
}

func (d *Daemon) queueList(ctx context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		Limit int `json:"limit,omitempty"`
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	letters, err := d.outbox.List(ctx)
	if err != nil {
		return nil, d.adminError("list the queue", err)
	}
	if p.Limit <= 0 || p.Limit > maxLetters {
		p.Limit = maxLetters
	}
	for i := range letters {
		letters[i].Body, letters[i].Operation = "", nil
	}
	all := len(letters)
	letters = d.pick(letters, p.Limit)
	return struct {
		Letters []journal.Letter `json:"letters"`
		Omitted int              `json:"omitted,omitempty"`
	}{letters, all - len(letters)}, nil
}

// pick chooses the letters of one answer and leaves them in their order. What
// was merely refused gives way first: a client can be refused as often as it
// likes, and must not push out of sight what waits for a person.
func (d *Daemon) pick(letters []journal.Letter, limit int) []journal.Letter {
	room := d.answerRoom()
	take := make([]bool, len(letters))
	for _, refused := range []bool{false, true} {
		for i := range letters {
			if (letters[i].State == journal.StateRefused) != refused || limit == 0 {
				continue
			}
			if room -= sizeOf(letters[i]); room < 0 {
				limit = 0
				break
			}
			take[i] = true
			limit--
		}
	}
	picked := []journal.Letter{}
	for i, l := range letters {
		if take[i] {
			picked = append(picked, l)
		}
	}
	return picked
}

// answerRoom is how many bytes of an answer can be other than its frame.
func (d *Daemon) answerRoom() int { return d.maxMessage - 4<<10 }

// sizeOf is how long v is in an answer, at most.
func sizeOf(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		return 0 // it will not be in the answer either
	}
	return len(b) + 1
}

// maxLetters is one answer, if it fits into a message.
const maxLetters = 1000

func (d *Daemon) queueShow(ctx context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		ID string `json:"id"`
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	l, err := d.outbox.Get(ctx, p.ID)
	if err != nil {
		return nil, d.adminError("show a dead letter", err)
	}
	l.Operation = nil
	whole := len(l.Body)
	for body := l.Body; sizeOf(l) > d.answerRoom() && body != ""; {
		body = strings.ToValidUTF8(body[:len(body)/2], "")
		l.Body = fmt.Sprintf("%s…[+%d bytes not shown]", body, whole-len(body))
	}
	return l, nil
}

func (d *Daemon) queuePurge(ctx context.Context, c *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		ID string `json:"id,omitempty"`
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	if err := d.recordAdmin(ctx, c, "queue.purge", p.ID); err != nil {
		return nil, err
	}
	n, err := d.purge(ctx, p.ID)
	if err != nil {
		return nil, d.adminError("purge the queue", err)
	}
	return struct {
		Purged int `json:"purged"`
	}{n}, nil
}

// purge deletes letters for good: the next start must not take them for lost
// ones, so it is noted first that they were there.
func (d *Daemon) purge(ctx context.Context, id string) (int, error) {
	if err := d.settle(ctx); err != nil {
		return 0, err
	}
	return d.outbox.Purge(ctx, id)
}

func (d *Daemon) auditShow(ctx context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		From  uint64 `json:"from,omitempty"`
		Limit int    `json:"limit,omitempty"`
		Tail  int    `json:"tail,omitempty"`
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	if p.Limit <= 0 || p.Limit > maxRecords {
		p.Limit = maxRecords
	}
	if err := d.audit.Flush(ctx); err != nil {
		d.log.Warn("flush the audit log before it is shown", "error", err)
	}
	head, _ := d.audit.Head()
	if p.Tail > 0 {
		p.Tail = min(p.Tail, maxRecords)
		p.From, p.Limit = head-min(uint64(p.Tail), head), p.Tail
	}
	records, err := d.audit.Read(p.From, p.Limit)
	if err != nil {
		return nil, d.adminError("read the audit log", err)
	}
	shown := make([]shownRecord, len(records))
	for i, e := range records {
		if e.Peers == nil {
			e.Peers = []string{}
		}
		shown[i] = shownRecord{e, e.ID, e.ClientUID, e.PID, e.Channel, e.Direction, e.Verb, e.Peers, e.Verdict, e.Rule, e.Reason, e.Digest}
	}
	room, n := d.answerRoom(), 0
	for n < len(shown) {
		i := n
		if p.Tail > 0 { // the newest are wanted
			i = len(shown) - 1 - n
		}
		if room -= sizeOf(shown[i]); room < 0 && n > 0 {
			break
		}
		n++
	}
	if p.Tail > 0 {
		p.From += uint64(len(shown) - n)
		shown = shown[len(shown)-n:]
	}
	return struct {
		Records []shownRecord `json:"records"`
		Next    uint64        `json:"next"`
	}{shown[:n], p.From + uint64(n)}, nil
}

// shownRecord is a record as scripts read it: every key of interface §9 but
// exit is there, also where the log has nothing to say.
type shownRecord struct {
	journal.Event
	ID        string   `json:"id"`
	ClientUID *uint32  `json:"client_uid"`
	PID       int32    `json:"pid"`
	Channel   string   `json:"channel"`
	Direction string   `json:"direction"`
	Verb      string   `json:"verb"`
	Peers     []string `json:"peers"`
	Verdict   string   `json:"verdict"`
	Rule      string   `json:"rule"`
	Reason    string   `json:"reason"`
	Digest    string   `json:"digest"`
}

// maxRecords is one page of the audit log, if it fits into a message: how long
// a record is, clients have a say in.
const maxRecords = 500

func (d *Daemon) auditVerify(ctx context.Context, _ *wire.Conn, r *wire.Request) (any, error) {
	if err := wire.Decode(r.Params, &none{}); err != nil {
		return nil, err
	}
	if err := d.audit.Flush(ctx); err != nil {
		return nil, d.adminError("flush the audit log", err)
	}
	report, err := journal.Verify(filepath.Join(d.opts.State, "audit"))
	if err != nil {
		return nil, d.adminError("verify the audit log", err)
	}
	return struct {
		OK      bool   `json:"ok"`
		Records uint64 `json:"records"`
		Head    string `json:"head"`
	}{true, report.Records, report.Head}, nil
}

func (d *Daemon) adminReload(ctx context.Context, c *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		Widen bool `json:"widen,omitempty"`
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	gained, err := d.reload(ctx, p.Widen, func(what string) error { return d.recordAdmin(ctx, c, "reload", what) })
	if err != nil {
		return nil, err
	}
	return struct {
		PolicySHA256 string   `json:"policy_sha256"`
		Gained       []string `json:"gained"`
	}{d.current.Load().config.Policy.SHA256, gained}, nil
}

func (d *Daemon) adminLock(ctx context.Context, c *wire.Conn, r *wire.Request) (any, error) {
	var p struct {
		Reason string `json:"reason,omitempty"`
	}
	if err := wire.Decode(r.Params, &p); err != nil {
		return nil, err
	}
	if len(p.Reason) > 1000 {
		return nil, &wire.Error{Code: wire.CodeInvalidParams, Message: "the reason is longer than 1000 bytes"}
	}
	// The switch comes before the record: a full disk must not keep a person
	// from stopping everything.
	lockErr := d.lock.Set(p.Reason)
	recordErr := d.recordAdmin(ctx, c, "lock", p.Reason)
	if lockErr != nil {
		return nil, d.adminError("lock", lockErr)
	}
	if recordErr != nil {
		return nil, recordErr
	}
	return lockedState{true}, nil
}

func (d *Daemon) adminUnlock(ctx context.Context, c *wire.Conn, r *wire.Request) (any, error) {
	if err := wire.Decode(r.Params, &none{}); err != nil {
		return nil, err
	}
	if err := d.recordAdmin(ctx, c, "unlock", ""); err != nil {
		return nil, err
	}
	if err := d.lock.Clear(); err != nil {
		return nil, d.adminError("unlock", err)
	}
	return lockedState{false}, nil
}

type lockedState struct {
	Locked bool `json:"locked"`
}

// recordAdmin makes an act of a person durable before it takes effect.
func (d *Daemon) recordAdmin(ctx context.Context, c *wire.Conn, what, detail string) error {
	who := c.Identity()
	e := journal.Event{Kind: journal.KindAdmin, ID: journal.NewID(), ClientUID: &who.UID, PID: who.PID,
		Verb: "admin", Command: what, Verdict: "allow", Rule: "admin.sock", Reason: detail}
	if err := d.audit.Record(ctx, e); err != nil {
		return d.adminError("record "+what, err)
	}
	return nil
}

// adminError tells a person what went wrong; unlike a client, the owner may
// read the cause.
func (d *Daemon) adminError(what string, err error) error {
	d.log.Error("an admin request", "what", what, "error", err)
	code := wire.CodeInternal
	hint := "the log of the gateway has more: journalctl -u carapace"
	switch {
	case errors.Is(err, journal.ErrNotFound):
		code, hint = wire.CodeInvalidParams, "carapacectl queue list shows the ids"
	case errors.Is(err, journal.ErrAmbiguous):
		code, hint = wire.CodeInvalidParams, "give more of the id"
	}
	return &wire.Error{Code: code, Message: fmt.Sprintf("%s: %v", what, err), Data: &wire.ErrorData{Hint: hint}}
}

// userName is the name of the account that the daemon runs as.
func (d *Daemon) userName() string {
	if u, err := user.LookupId(strconv.FormatUint(uint64(d.uid), 10)); err == nil {
		return u.Username
	}
	return strconv.FormatUint(uint64(d.uid), 10)
}
