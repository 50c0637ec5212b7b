package adapter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

const (
	// inFlight is how many requests a resident child holds unanswered. One:
	// imsg answers one at a time anyway, and what is still with us when a
	// child dies is known not to have started.
	inFlight = 1
	// closeGrace is what a child has to end by itself once its input ended.
	closeGrace = 2 * time.Second
)

// session is the life of one resident child.
type session struct {
	spec  *Spec
	p     *process
	slots chan struct{} // one token for each unanswered request
	ended chan struct{} // closed when the child is gone and every request answered

	mu      sync.Mutex
	pending map[int64]*sent
	failure error // why we ended it; nil when it ended by itself
	heard   bool  // it answered something
	said    tail  // of its standard error
}

// sent is a request that was, or is being, written.
type sent struct {
	*call
	timer *time.Timer
}

func newSession(spec *Spec, p *process) *session {
	s := &session{
		spec:    spec,
		p:       p,
		slots:   make(chan struct{}, inFlight),
		ended:   make(chan struct{}),
		pending: make(map[int64]*sent),
	}
	stderr := make(chan struct{})
	go func() {
		defer close(stderr)
		s.drain()
	}()
	go func() {
		s.read()
		s.bury()
		<-stderr
		p.finish()
		s.abandon()
		close(s.ended)
	}()
	return s
}

// serve writes what waits in q until the child is gone or ctx is done.
func (s *session) serve(ctx context.Context, q *queue) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		case s.slots <- struct{}{}:
		}
		c := q.pop()
		for c == nil {
			select {
			case <-ctx.Done():
				return
			case <-s.ended:
				return
			case <-q.more:
				c = q.pop()
			}
		}
		if !s.write(c) {
			return
		}
	}
}

// write gives a request to the child, and reports whether the child can be
// given another. The caller holds a slot.
func (s *session) write(c *call) bool {
	if c.ready != nil {
		if err := c.ready(); err != nil {
			<-s.slots
			c.reply(nil, notStarted(err))
			return true
		}
	}
	limit := s.spec.timeout()
	s.mu.Lock()
	if s.pending == nil {
		s.mu.Unlock()
		c.reply(nil, notStarted(errors.New("the tool ended")))
		return false
	}
	s.pending[c.id] = &sent{c, time.AfterFunc(limit, func() {
		s.fail(fmt.Errorf("it did not answer within %s", limit))
	})}
	s.mu.Unlock()
	n, err := s.p.in.Write(c.line)
	if err == nil {
		return true
	}
	if n == 0 {
		if lost := s.take(c.id); lost != nil {
			lost.reply(nil, notStarted(errors.New("the tool does not read")))
		}
	}
	select {
	case <-s.p.done: // and how it ended says more than that it does not read
	case <-time.After(drainDelay):
		s.fail(errors.New("it stopped reading"))
	}
	return false
}

// take ends the waiting for an id. It returns nil when nothing waits for it.
func (s *session) take(id int64) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.pending[id]
	if !ok {
		return nil
	}
	w.timer.Stop()
	delete(s.pending, id)
	<-s.slots
	return w.call
}

// fail ends the child because of what it did. The first reason stands.
func (s *session) fail(why error) {
	s.mu.Lock()
	if s.failure == nil {
		s.failure = why
	}
	s.mu.Unlock()
	s.p.kill()
}

// read takes the child's output line by line to its end. One line that makes
// no sense ends the child: from there on nobody knows which answer belongs to
// which request.
func (s *session) read() {
	r := newLines(s.p.out, s.spec.maxOutput())
	for {
		b, err := r.next()
		if errors.Is(err, errTooLong) {
			s.fail(fmt.Errorf("it printed a line of more than %d bytes", s.spec.maxOutput()))
			return
		}
		if err != nil {
			return
		}
		if err := s.hear(b); err != nil {
			s.fail(err)
			return
		}
	}
}

func (s *session) hear(b []byte) error {
	l, err := parseLine(b)
	if err != nil {
		return err
	}
	switch l.kind {
	case kindStray:
		// It may belong to anything. Whoever waits for it waits to the
		// deadline and is told that nobody knows.
		s.spec.log().Warn("the tool answered no request in particular", "code", l.fault.code)
	case kindReply:
		c := s.take(l.id)
		if c == nil {
			return errors.New("it answered a request that nobody made")
		}
		s.mu.Lock()
		s.heard = true
		s.mu.Unlock()
		if l.fault != nil {
			c.reply(nil, l.fault.toolError(s.spec.Home, s.spec.Dir))
		} else {
			c.reply(l.result, nil)
		}
	}
	return nil
}

// drain keeps the child's standard error from filling up.
func (s *session) drain() {
	buf := make([]byte, 4<<10)
	for {
		n, err := s.p.errs.Read(buf)
		s.mu.Lock()
		s.said.add(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// bury sees to it that a child whose output ended is gone.
func (s *session) bury() {
	select {
	case <-s.p.done:
	case <-time.After(closeGrace):
		s.fail(errors.New("it closed its output"))
		<-s.p.done
	}
}

// abandon answers what will never be answered.
func (s *session) abandon() {
	why, _ := s.words()
	s.mu.Lock()
	pending := s.pending
	s.pending = nil
	s.mu.Unlock()
	for _, w := range pending {
		w.timer.Stop()
		w.reply(nil, unknown(errors.New(why)))
	}
}

// end lets the child finish what it is doing, then ends it. A tool that is
// told that there is no more input ends by itself.
func (s *session) end() {
	s.p.in.Close()
	select {
	case <-s.ended:
		return
	case <-time.After(closeGrace):
	}
	s.p.kill()
	<-s.ended
}

// words say why a child that is gone has gone, and with what last words: both
// short, and without a path.
func (s *session) words() (why, said string) {
	s.mu.Lock()
	failure, said := s.failure, brief(string(s.said.b))
	s.mu.Unlock()
	if failure != nil {
		return failure.Error(), said
	}
	_, _, how := s.p.ending()
	return how, said
}

// ask writes one request outside the queue and waits for its answer.
func (s *session) ask(ctx context.Context, c *call) (answer, bool) {
	select {
	case s.slots <- struct{}{}:
	case <-s.ended:
		return answer{}, false
	}
	s.write(c)
	select {
	case a := <-c.answer:
		var tool *channel.ToolError
		return a, a.err == nil || errors.As(a.err, &tool)
	case <-s.ended:
		return answer{}, false
	case <-ctx.Done():
		return answer{}, false
	}
}
