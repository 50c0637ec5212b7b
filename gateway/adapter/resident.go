package adapter

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

// Bounds of the supervision.
const (
	firstPause = 250 * time.Millisecond
	longPause  = 30 * time.Second
	healthy    = time.Minute // a child that lived so long starts the pauses afresh
	// patience is the longest pause through which requests wait instead of
	// being refused: one hang or crash need not fail everybody behind it.
	patience = time.Second
)

// Resident keeps one child alive and asks it.
type Resident struct {
	spec    Spec
	invalid error
	vetter  vetter
	queue   *queue
	pauses  pauses // the supervisor's alone
	lastID  atomic.Int64
	closing context.Context
	close   context.CancelFunc
	gone    chan struct{} // closed when the supervisor has ended

	mu      sync.Mutex
	started bool
	refuse  error // why Run refuses at once; nil when requests are taken
	absent  bool  // the last start found no tool that could be run
	status  channel.Status
	session *session
}

var _ channel.Runner = (*Resident)(nil)

// NewResident returns a runner that starts nothing before Start.
func NewResident(s Spec) *Resident {
	r := &Resident{
		spec:    s,
		invalid: s.Check(),
		queue:   newQueue(),
		pauses:  newPauses(),
		gone:    make(chan struct{}),
		refuse:  errors.New("the tool is not being run"),
		status:  channel.Status{State: channel.StateDown},
	}
	if r.invalid != nil {
		r.refuse = r.invalid
		r.status.LastError = "the channel is not configured correctly"
	}
	r.closing, r.close = context.WithCancel(context.Background())
	return r
}

// Start starts the child and keeps it alive until Close is called or ctx is
// done. It returns at once; an error means that the Spec is wrong or that Start
// was called before. A tool that is missing is no error: it is waited for.
func (r *Resident) Start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.invalid != nil:
		return r.invalid
	case r.started || r.closing.Err() != nil:
		return errors.New("the tool was started before")
	}
	r.started = true
	r.refuse = nil
	r.status.State = channel.StateStarting
	stop := context.AfterFunc(ctx, r.close)
	go func() {
		defer close(r.gone)
		defer stop()
		r.supervise()
	}()
	return nil
}

// Run asks the child. Requests wait in order for the child to be started and
// to answer those before them; when too many wait, or when the child is not
// expected back soon, the answer is channel.ErrNotStarted at once.
//
// When ctx ends before the request was written it never will be, and that is
// channel.ErrNotStarted too. Afterwards it is channel.ErrUnknown; the child
// still has the Spec's Timeout, counted from the writing, because a caller who
// leaves must not be able to end the child of everybody else.
func (r *Resident) Run(ctx context.Context, c channel.Command) (channel.Reply, error) {
	if c.Request == nil {
		return channel.Reply{}, notStarted(errors.New("a resident tool can only be asked"))
	}
	if err := ctx.Err(); err != nil {
		return channel.Reply{}, notStarted(err)
	}
	q, err := r.newCall(c.Request)
	if err != nil {
		return channel.Reply{}, notStarted(err)
	}
	q.ready = c.Ready
	if err := r.enqueue(q); err != nil {
		return channel.Reply{}, notStarted(err)
	}
	wait := time.NewTimer(r.spec.timeout())
	defer wait.Stop()
	for {
		select {
		case a := <-q.answer:
			return channel.Reply{Data: a.result}, a.err
		case <-wait.C:
			if r.queue.drop(q) {
				return channel.Reply{}, notStarted(errors.New("too many requests before it"))
			}
			// It was written; the session's own deadline holds for it.
		case <-ctx.Done():
			if r.queue.drop(q) {
				return channel.Reply{}, notStarted(ctx.Err())
			}
			select {
			case a := <-q.answer:
				return channel.Reply{Data: a.result}, a.err
			default:
				return channel.Reply{}, unknown(ctx.Err())
			}
		}
	}
}

func (r *Resident) newCall(q *channel.Request) (*call, error) {
	id := r.lastID.Add(1)
	b, err := request(id, q)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > r.spec.maxOutput() {
		return nil, errors.New("the request is too long")
	}
	return &call{id: id, line: b, answer: make(chan answer, 1)}, nil
}

// enqueue holds the lock across both steps, so that nothing is queued after
// the queue was cleared for good.
func (r *Resident) enqueue(q *call) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return r.refuse
	}
	if !r.queue.push(q) {
		return errors.New("too many requests wait for the tool")
	}
	return nil
}

// Status is the state of the child now.
func (r *Resident) Status() channel.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	if r.session != nil {
		r.session.mu.Lock()
		if r.session.heard {
			s.LastError = "" // what went wrong before is over
		}
		r.session.mu.Unlock()
	}
	return s
}

// Close ends the child: its input is closed so that it can finish the request
// it is at, then its process group is killed. When Close returns nothing is
// left of it.
func (r *Resident) Close() error {
	r.mu.Lock()
	r.close()
	started := r.started
	r.mu.Unlock()
	if started {
		<-r.gone
	}
	return nil
}

func (r *Resident) supervise() {
	log := r.spec.log()
	for n := 0; r.closing.Err() == nil; n++ {
		r.note(func(s *channel.Status) {
			s.State = channel.StateStarting
			s.Restarts = n
		})
		began := time.Now()
		state, why := r.live()
		if r.closing.Err() != nil {
			break
		}
		pause := r.pauses.next(time.Since(began))
		log.Warn("the tool does not run", "state", state, "why", why, "pause", pause)
		r.rest(state, why, pause)
		select {
		case <-time.After(pause):
		case <-r.closing.Done():
		}
	}
	r.rest(channel.StateDown, "the gateway is stopping", longPause)
}

// live is one child from start to end. It returns the state in which that
// leaves the channel, and why.
func (r *Resident) live() (channel.State, string) {
	p, err := r.launch()
	if err != nil {
		r.spec.log().Debug("the tool was not started", "err", err)
		return channel.StateDown, blame(err)
	}
	s := newSession(&r.spec, p)
	r.mu.Lock()
	r.refuse, r.session = nil, s
	r.status.PID = p.pid
	if r.absent {
		r.absent, r.status.LastError = false, ""
	}
	r.mu.Unlock()
	// A child that does not read would otherwise hold up Close for as long as
	// a request may take.
	defer context.AfterFunc(r.closing, func() { p.in.Close() })()
	r.spec.log().Info("the tool was started", "pid", p.pid)
	if r.probe(s) {
		r.note(func(st *channel.Status) { st.State = channel.StateReady })
		s.serve(r.closing, r.queue)
	}
	if r.closing.Err() != nil {
		s.end()
	}
	<-s.ended
	r.note(func(st *channel.Status) { st.PID = 0 })
	r.mu.Lock()
	r.session = nil
	r.mu.Unlock()
	why, said := s.words()
	if said != "" {
		why = clean(why+": "+said, maxLastError)
	}
	return channel.StateBackoff, why
}

func (r *Resident) launch() (*process, error) {
	if err := r.vetter.vet(r.spec.Tool, r.spec.SHA256, r.spec.TrustOwner); err != nil {
		return nil, err
	}
	argv := append([]string{filepath.Base(r.spec.Tool)}, r.spec.Args...)
	return r.spec.start(r.spec.Tool, argv, true)
}

// probe reports whether the child answers. An error of the tool's is an answer,
// and stays visible: it runs but cannot do its work.
func (r *Resident) probe(s *session) bool {
	if r.spec.Probe == nil {
		return true
	}
	c, err := r.newCall(r.spec.Probe)
	if err != nil {
		s.fail(err)
		return false
	}
	a, ok := s.ask(r.closing, c)
	if !ok {
		return false
	}
	s.mu.Lock()
	s.heard = a.err == nil
	s.mu.Unlock()
	if a.err != nil {
		r.note(func(st *channel.Status) { st.LastError = brief(a.err.Error()) })
	}
	return true
}

func (r *Resident) note(change func(*channel.Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// rest is the time between two children.
func (r *Resident) rest(state channel.State, why string, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.State, r.status.LastError = state, why
	r.absent = state == channel.StateDown
	if state == channel.StateBackoff && pause <= patience {
		return
	}
	r.refuse = errors.New(why)
	r.queue.clear(notStarted(r.refuse))
}

// pauses are the times between two starts: doubling, with some chance in them.
type pauses struct{ b *backoff.ExponentialBackOff }

func newPauses() pauses {
	return pauses{backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPause),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.2),
		backoff.WithMaxInterval(longPause),
		// The library's own default gives up after a quarter of an hour, and
		// a channel that is dead for ever is not what anybody asked for.
		backoff.WithMaxElapsedTime(0),
	)}
}

// next is how long to wait after a child that lived that long.
func (p pauses) next(lived time.Duration) time.Duration {
	if lived >= healthy {
		p.b.Reset()
	}
	return min(p.b.NextBackOff(), longPause)
}
