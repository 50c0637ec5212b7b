package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/guard"
	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/policy"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// operate takes one call of a client through the whole pipeline and returns
// what the client sees. It is deliberately one straight function: whoever
// wants to know what happens to a message reads it from top to bottom.
func (d *Daemon) operate(ctx context.Context, who wire.Identity, name string, call channel.Call) answer {
	ch, ok := d.channels[name]
	if !ok {
		return refused(&channel.Refusal{Code: wire.CodeUnavailable, Reason: "no such channel", Hint: "carapacectl channels lists them"})
	}
	if h, ok := ch.(channel.Helper); ok {
		if out, ok := h.Local(call); ok {
			return answer{out: out}
		}
	}

	r := &run{d: d, ch: ch, call: call, who: who, id: journal.NewID()}

	op, err := ch.Classify(call)
	op.Channel, op.Client = name, who.UID
	if err != nil {
		return r.unclassified(op, err)
	}
	// While the gateway is locked the tool is not even asked who is meant: the
	// first rule denies whoever it is.
	if locked, _ := d.lock.Locked(); !locked {
		if op, err = d.resolve(ctx, ch, op); err != nil {
			return r.unclassified(op, err)
		}
	}

	// Not before: a lookup can take as long as a request may, and a policy that
	// was narrowed meanwhile is meant for this operation too.
	decision := d.current.Load().guard.Decide(ctx, &op)
	r.op, r.decision = op, decision
	r.digest = d.digest(&op)
	switch decision.Action {
	case policy.Deny:
		return r.refuse()
	case policy.Hold:
		return r.hold(ctx)
	case policy.Redact:
		op.Body = decision.Body
		r.op = op
	}

	command, err := ch.Command(op)
	if err != nil {
		return r.unclassified(op, err)
	}
	if !op.Verb.Effect() {
		return r.read(ctx, command)
	}
	return r.effect(ctx, command)
}

// run is one call on its way.
type run struct {
	d        *Daemon
	ch       channel.Channel
	call     channel.Call
	who      wire.Identity
	id       string
	op       policy.Operation
	decision guard.Decision
	digest   string
}

// resolve asks the tool for the peer behind a word that only the tool knows.
func (d *Daemon) resolve(ctx context.Context, ch channel.Channel, op policy.Operation) (policy.Operation, error) {
	resolver, ok := ch.(channel.Resolver)
	if !ok {
		return op, nil
	}
	question, ok := resolver.Lookup(op)
	if !ok {
		return op, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	reply, err := d.runner(ch.Name()).Run(ctx, question)
	if err != nil {
		return op, err
	}
	client := op.Client
	op, err = resolver.Resolve(op, reply)
	op.Channel, op.Client = ch.Name(), client
	return op, err
}

// refuse records a refusal and keeps what was refused for a person to see. The
// record is durable before the client hears of it; the row of the outbox
// follows by itself, and one that a crash swallowed is made from the record.
func (r *run) refuse() answer {
	id := r.id
	if r.op.Verb.Effect() {
		kept, err := r.d.later(r.letter(journal.StateRefused))
		if err != nil {
			r.d.log.Error("keep a refused operation", "id", id, "error", err)
		} else {
			id = kept
		}
	}
	e := r.event(journal.KindRefused)
	e.ID = id
	if err := r.d.record(e, r.op.Verb.Effect()); err != nil {
		return r.render(channel.Result{Err: r.d.unrecorded(err)})
	}
	r.d.count.refused.Add(1)
	told := r.decision.Told
	refusal := &channel.Refusal{Code: codeOf(told), Reason: told.Reason, ID: id, RetryAfter: told.RetryAfter.Milliseconds()}
	if told.Stage == policy.StageRate {
		// Rounded up: a client that waits as long as it was told must pass.
		refusal.RetryAfter = (told.RetryAfter + time.Millisecond - 1).Milliseconds()
	}
	refusal.Hint = r.hint(told, id)
	if !r.op.Verb.Effect() {
		refusal.ID = "" // a read leaves no dead letter to look up
	}
	return r.render(channel.Result{Err: refusal})
}

// hold keeps an operation for a person: the row first, then the record, so
// that a record never promises a letter that is not there.
func (r *run) hold(ctx context.Context) answer {
	if !r.op.Verb.Effect() {
		// There is nothing in a read that a person could release later.
		r.decision.Action = policy.Deny
		return r.refuse()
	}
	// A client that hangs up must not part the row from its record.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.d.timeout())
	defer cancel()
	if err := r.d.outbox.Add(ctx, r.letter(journal.StateHeld)); err != nil {
		r.d.log.Error("keep a held operation", "id", r.id, "error", err)
		return r.render(channel.Result{Err: r.d.unrecorded(err)})
	}
	if err := r.d.audit.Record(ctx, r.event(journal.KindHeld)); err != nil {
		return r.render(channel.Result{Err: r.d.unrecorded(err)})
	}
	r.d.count.held.Add(1)
	return r.render(channel.Result{Err: &channel.Refusal{
		Code: wire.CodeHeld, Reason: r.decision.Told.Reason, ID: r.id, Hint: r.hint(r.decision.Told, r.id),
	}})
}

// effect runs an operation that changes the world: the intent is durable
// first, the command is given to the tool once, and the outcome is recorded
// whatever it is. A client that goes away does not undo what it asked for.
func (r *run) effect(ctx context.Context, command channel.Command) answer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.d.timeout())
	defer cancel()
	if err := r.d.audit.Record(ctx, r.event(journal.KindIntent)); err != nil {
		if ctx.Err() != nil {
			// The record may be there all the same; then it must not look
			// like something of which nobody knows how it ended.
			_, outcome := r.outcome(channel.Reply{}, channel.ErrNotStarted)
			_ = r.d.audit.Note(outcome)
		}
		return r.render(channel.Result{Err: r.d.unrecorded(err)})
	}
	command.Ready = r.d.ready
	reply, err := r.d.runner(r.op.Channel).Run(ctx, command)
	result, outcome := r.outcome(reply, err)
	if err := r.d.audit.Note(outcome); err != nil {
		// The message has left (or not): the client is told the truth of that,
		// and the intent without an outcome is found at the next start.
		r.d.log.Error("record an outcome", "id", r.id, "error", err)
	}
	return r.render(result)
}

// outcome says what became of a command: for the client and for the log.
func (r *run) outcome(reply channel.Reply, err error) (channel.Result, journal.Event) {
	e := r.event(journal.KindOutcome)
	code := reply.Exit
	var tool *channel.ToolError
	switch {
	case err == nil:
		e.Reason = "done"
		e.Exit = &code
		r.d.count.sent.Add(1)
		return channel.Result{Reply: reply}, e
	case errors.As(err, &tool):
		code = wire.ExitFailed
		e.Exit, e.Reason = &code, "the tool refused"
		return channel.Result{Err: toolRefusal(tool)}, e
	case errors.Is(err, channel.ErrNotStarted):
		code = wire.ExitUnavailable
		e.Exit, e.Reason = &code, "not started"
		if errors.Is(err, errLocked) {
			told := policy.Verdict{Stage: policy.StageLock, Reason: errLocked.Error()}
			return channel.Result{Err: &channel.Refusal{Code: codeOf(told), Reason: told.Reason, Hint: r.hint(told, r.id)}}, e
		}
		return channel.Result{Err: r.d.unavailable(r.op.Channel)}, e
	default:
		// The tool may have seen it. It is never sent again by us.
		e.Kind, e.Reason = journal.KindInterrupted, "the tool did not answer"
		l := r.letter(journal.StateInterrupted)
		l.Reason = e.Reason
		if _, kept := r.d.later(l); kept != nil {
			r.d.log.Error("keep an interrupted operation", "id", r.id, "error", kept)
		}
		r.d.log.Warn("outcome unknown", "id", r.id, "channel", r.op.Channel, "error", err)
		return channel.Result{Err: &channel.Refusal{
			Code: wire.CodeTool, Reason: "the tool did not answer; it is not known whether the message left", ID: r.id,
			Hint: "do not send it again by yourself; the owner can run: sudo -k carapacectl queue show " + r.id,
		}}, e
	}
}

// read runs an operation without an effect and shows the client what passed
// the rules item by item.
func (r *run) read(ctx context.Context, command channel.Command) answer {
	ctx, cancel := context.WithTimeout(ctx, r.d.timeout())
	defer cancel()
	reply, err := r.d.runner(r.op.Channel).Run(ctx, command)
	if err != nil {
		return r.unclassified(r.op, err)
	}
	items, dropped, err := r.ch.Inbound(r.op, reply.Data)
	if err != nil {
		return r.unclassified(r.op, fmt.Errorf("read the answer of the tool: %v", err)) // without its chain: it is not about what the client said
	}
	g := r.d.current.Load().guard
	shown := items[:0]
	for _, item := range items {
		item.Channel, item.Client, item.Direction = r.op.Channel, r.who.UID, policy.Inbound
		verdict := g.Decide(ctx, &item)
		switch verdict.Action {
		case policy.Deny, policy.Hold:
			dropped++
			continue
		case policy.Redact:
			item.Body = verdict.Body
		}
		shown = append(shown, item)
	}
	e := r.event(journal.KindRead)
	e.Count = len(shown)
	if dropped > 0 {
		e.Reason = fmt.Sprintf("%d of %d shown", len(shown), len(shown)+dropped)
		r.d.count.dropped.Add(int64(dropped))
	}
	// A read that cannot be recorded is not shown.
	if err := r.d.audit.Note(e); err != nil {
		return r.render(channel.Result{Err: r.d.unrecorded(err)})
	}
	return r.render(channel.Result{Reply: reply, Shown: shown})
}

// unclassified answers a call that never became an operation to be judged: a
// usage error is the tool's own words, everything else is refused. Either way
// there is a record.
func (r *run) unclassified(op policy.Operation, err error) answer {
	r.op = op
	if r.op.Verb == "" {
		r.op.Command = commandOf(r.call)
	}
	e := r.event(journal.KindRefused)
	e.Verdict = policy.Deny.String()
	var (
		usage     *channel.UsageError
		forbidden *channel.NotPermittedError
		tool      *channel.ToolError
		params    *channel.ParamsError
		result    channel.Result
	)
	switch {
	case errors.As(err, &usage):
		e.Rule, e.Reason = "grammar", "usage"
	case errors.As(err, &forbidden):
		e.Rule, e.Reason = "command", forbidden.Error()
		result.Err = &channel.Refusal{Code: wire.CodeCommand, Reason: forbidden.Error(),
			Hint: cmp.Or(forbidden.Hint, "this version of the gateway does not serve it")}
	case errors.As(err, &tool):
		e.Rule, e.Reason = "tool", "the tool refused"
		result.Err = toolRefusal(tool)
	case errors.Is(err, channel.ErrNotStarted), errors.Is(err, channel.ErrUnknown), errors.Is(err, context.DeadlineExceeded):
		e.Rule, e.Reason = "tool", "not available"
		result.Err = r.d.unavailable(r.ch.Name())
	case errors.As(err, &params):
		e.Rule, e.Reason = "grammar", "not understood"
		result.Err = &channel.Refusal{Code: wire.CodeInvalidParams, Reason: params.What}
	default:
		// Whatever else went wrong may quote what nobody judged.
		e.Rule, e.Reason = "tool", "the tool's answer was not understood"
		result.Err = &channel.Refusal{Code: wire.CodeTool, Reason: e.Reason}
	}
	if err := r.d.audit.Note(e); err != nil {
		return r.render(channel.Result{Err: r.d.unrecorded(err)})
	}
	r.d.count.refused.Add(1)
	if usage != nil {
		return answer{out: usage.Output, usage: usage}
	}
	return r.render(result)
}

func (r *run) render(result channel.Result) answer {
	a := answer{out: r.ch.Render(r.call, r.op, result), refusal: result.Err}
	if a.refusal == nil && r.call.Method != "" && a.out.Result == nil {
		// The channel made nothing of the answer, and that is no success.
		a.refusal = &channel.Refusal{Code: wire.CodeTool, Reason: "the tool's answer was not understood"}
		if r.op.Verb.Effect() {
			a.refusal.Reason += "; it is not known whether the message left"
		}
	}
	return a
}

// toolRefusal is what a client hears of the tool's complaint. It may quote a
// path, the address book or another conversation, so a client of our own
// methods hears no more of it than a user of the tool's command line.
func toolRefusal(e *channel.ToolError) *channel.Refusal {
	return &channel.Refusal{Code: wire.CodeTool, Reason: channel.Scrub(e.Text)}
}

// errLocked is why a command that was permitted is not started.
var errLocked = errors.New("the gateway is locked")

// ready is asked at the last moment before a tool sees a command.
func (d *Daemon) ready() error {
	if locked, _ := d.lock.Locked(); locked {
		return errLocked
	}
	return nil
}

// event starts the audit record of this run.
func (r *run) event(kind journal.Kind) journal.Event {
	uid := r.who.UID
	e := journal.Event{
		Kind: kind, ID: r.id, ClientUID: &uid, PID: r.who.PID,
		Channel: r.ch.Name(), Direction: r.op.Direction.String(), Verb: string(r.op.Verb), Command: r.op.Command,
		Verdict: r.decision.Action.String(), Rule: r.decision.Rule, Reason: r.decision.Reason, Digest: r.digest,
	}
	for _, p := range r.op.Peers() {
		if r.d.peersHashed {
			p = p.Base() // all spellings of one conversation have one hash
		}
		e.Peers = append(e.Peers, p.String())
	}
	for _, o := range r.decision.Opinions {
		if o.Action != policy.Allow {
			e.Opinions = append(e.Opinions, o.Stage.String()+":"+o.Rule+":"+o.Action.String())
		}
	}
	return e
}

// letter is what is kept of an operation that did not happen. A body that a
// content rule objected to is kept only with the objection cut out.
func (r *run) letter(state journal.State) journal.Letter {
	body := r.op.Body
	if r.decision.Body != nil {
		body = r.decision.Body
	}
	l := journal.Letter{
		ID: r.id, Time: time.Now().UTC().Format(time.RFC3339Nano), Channel: r.ch.Name(),
		Direction: r.op.Direction.String(), Verb: string(r.op.Verb),
		Reason: r.decision.Told.Reason, Rule: r.decision.Told.Rule, State: state,
		Client: r.d.clientName(r.who.UID), ClientUID: r.who.UID, Digest: r.digest, Count: 1,
	}
	for i, p := range r.op.Peers() {
		if i > 0 {
			l.Peer += ", "
		}
		l.Peer += p.String()
	}
	for i, t := range body {
		if i > 0 {
			l.Body += "\n"
		}
		l.Body += string(t)
	}
	return l
}

// digest names the operation without telling it: same peers and same words,
// same digest; keyed, so that it cannot be guessed from outside.
func (d *Daemon) digest(op *policy.Operation) string {
	parts := []string{op.Channel, op.Direction.String(), string(op.Verb), op.Command}
	for _, p := range op.Peers() {
		parts = append(parts, "peer", p.String())
	}
	for _, t := range op.Body {
		parts = append(parts, "body", string(t))
	}
	for _, f := range op.Files {
		parts = append(parts, "file", f.Name, f.SHA256)
	}
	return d.audit.Digest(parts...)
}

// record writes e, durably where the client's answer depends on it.
func (d *Daemon) record(e journal.Event, durable bool) error {
	if !durable {
		return d.audit.Note(e)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout())
	defer cancel()
	return d.audit.Record(ctx, e)
}

// unrecorded is the answer when the log does not take a record: nothing
// happens that cannot be proven to have happened.
func (d *Daemon) unrecorded(err error) *channel.Refusal {
	d.log.Error("the audit log does not take records; everything with an effect is refused", "error", err)
	d.count.unrecorded.Add(1)
	return &channel.Refusal{Code: wire.CodeUnavailable, Reason: "the gateway cannot keep its record, so nothing is sent",
		Hint: "the owner can run: sudo -k carapacectl status"}
}

func (d *Daemon) unavailable(name string) *channel.Refusal {
	return &channel.Refusal{Code: wire.CodeUnavailable, Reason: "the channel is not available: " + string(d.runner(name).Status().State),
		Hint: "the owner can run: sudo -k carapacectl status"}
}

func (r *run) hint(told policy.Verdict, id string) string {
	switch told.Stage {
	case policy.StageRate:
		return fmt.Sprintf("try again in %.1f s", told.RetryAfter.Seconds()+0.05)
	case policy.StageLock:
		return "the owner can run: sudo -k carapacectl unlock"
	}
	if !r.op.Verb.Effect() {
		return "the owner can look at: sudo -k carapacectl audit show"
	}
	return "the owner can run: sudo -k carapacectl queue show " + id
}

// codeOf maps the stage that is named to the client to the code of interface
// §5. A verdict that no rule gave is a refusal of the allowlist: that is what
// an empty list of rules means.
func codeOf(v policy.Verdict) int {
	if v.Action == policy.Hold {
		return wire.CodeHeld
	}
	switch v.Stage {
	case policy.StageLock:
		return wire.CodeLocked
	case policy.StageCommand:
		return wire.CodeCommand
	case policy.StageContent:
		return wire.CodeContent
	case policy.StageRate:
		return wire.CodeRate
	}
	return wire.CodeDenied
}

// commandOf names a call that was not understood, for the record: the first
// word only, because the rest may be private.
func commandOf(call channel.Call) string {
	if call.Method != "" {
		return call.Method
	}
	if len(call.Argv) > 1 && len(call.Argv[1]) <= 32 {
		return call.Argv[1]
	}
	return ""
}

// answer is what became of a call: the rendering for a shim, and for a method
// call the refusal or the usage error behind it.
type answer struct {
	out     channel.Output
	refusal *channel.Refusal
	usage   *channel.UsageError
}

// refused is the answer where there is no channel to render it.
func refused(r *channel.Refusal) answer {
	return answer{
		out:     channel.Output{Stderr: []byte("refused: " + r.Reason + "\n"), Exit: errorOf(r).Exit()},
		refusal: r,
	}
}

// errorOf turns a refusal into the wire's error.
func errorOf(r *channel.Refusal) *wire.Error {
	e := &wire.Error{Code: r.Code, Message: r.Reason}
	if r.ID != "" || r.Hint != "" || r.RetryAfter > 0 {
		e.Data = &wire.ErrorData{ID: r.ID, Hint: r.Hint, RetryAfterMS: r.RetryAfter}
	}
	return e
}
