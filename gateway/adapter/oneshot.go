package adapter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

// maxRuns is how many one-shot children of one channel run at a time; more
// wait. With MaxOutput it bounds what all of them together can make the daemon
// hold.
const maxRuns = 8

// OneShot runs a tool once for each command.
type OneShot struct {
	spec    Spec
	invalid error
	vetter  vetter
	slots   chan struct{}
	closing context.Context
	close   context.CancelFunc
	mu      sync.Mutex // orders running.Add and Close
	running sync.WaitGroup
}

var _ channel.Runner = (*OneShot)(nil)

// NewOneShot returns a runner; it starts nothing.
func NewOneShot(s Spec) *OneShot {
	o := &OneShot{spec: s, invalid: s.Check(), slots: make(chan struct{}, maxRuns)}
	o.closing, o.close = context.WithCancel(context.Background())
	return o
}

// Run runs the command to its end. An exit code other than 0 is no error: the
// tool ran and said so. A child that ran past its deadline or output bound, or
// that a signal ended, is an error that wraps channel.ErrUnknown; the Reply
// then holds what had been printed.
func (o *OneShot) Run(ctx context.Context, c channel.Command) (channel.Reply, error) {
	o.mu.Lock()
	if o.closing.Err() != nil {
		o.mu.Unlock()
		return channel.Reply{}, notStarted(errors.New("the gateway is stopping"))
	}
	o.running.Add(1)
	o.mu.Unlock()
	defer o.running.Done()

	path, err := o.accept(c)
	if err != nil {
		return channel.Reply{}, notStarted(err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.spec.timeout())
	defer cancel()
	defer context.AfterFunc(o.closing, cancel)()
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-ctx.Done():
		return channel.Reply{}, notStarted(ctx.Err())
	}
	if ctx.Err() != nil {
		return channel.Reply{}, notStarted(ctx.Err())
	}
	if c.Ready != nil {
		if err := c.Ready(); err != nil {
			return channel.Reply{}, notStarted(err)
		}
	}
	pin := ""
	if path == o.spec.Tool {
		pin = o.spec.SHA256
	}
	err = o.vetter.vet(path, pin, o.spec.TrustOwner)
	var p *process
	if err == nil {
		p, err = o.spec.start(path, c.Argv, len(c.Stdin) > 0)
	}
	if err != nil {
		o.spec.log().Warn("a tool was not started", "err", err)
		return channel.Reply{}, notStarted(errors.New(blame(err)))
	}
	return o.collect(ctx, p, c.Stdin)
}

// accept says which program a command names.
func (o *OneShot) accept(c channel.Command) (string, error) {
	switch {
	case o.invalid != nil:
		return "", o.invalid
	case c.Request != nil:
		return "", errors.New("a tool that runs once cannot be asked")
	case len(c.Argv) == 0:
		return "", errors.New("a command without a name")
	case c.Path == "" || c.Path == o.spec.Tool:
		return o.spec.Tool, nil
	case o.spec.SHA256 != "":
		return "", errors.New("a program other than the pinned one")
	}
	return c.Path, nil
}

// collect sees a child to its end.
func (o *OneShot) collect(ctx context.Context, p *process, stdin []byte) (channel.Reply, error) {
	var (
		left     atomic.Int64
		readers  sync.WaitGroup
		overflow = make(chan struct{})
		once     sync.Once
		out, ers bytes.Buffer
	)
	left.Store(o.spec.maxOutput())
	read := func(from *os.File, into *bytes.Buffer) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if left.Add(-int64(n)) < 0 {
				once.Do(func() { close(overflow) })
				return
			}
			into.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}
	readers.Go(func() { read(p.out, &out) })
	readers.Go(func() { read(p.errs, &ers) })
	if p.in != nil {
		readers.Go(func() {
			_, _ = io.Copy(p.in, bytes.NewReader(stdin)) // a tool need not read it all
			p.in.Close()
		})
	}

	var stopped error
	select {
	case <-p.done:
	case <-overflow:
		stopped = fmt.Errorf("it printed more than %d bytes", o.spec.maxOutput())
		p.kill()
		<-p.done
	case <-ctx.Done():
		select {
		case <-p.done:
		default:
			stopped = fmt.Errorf("it did not end in time: %w", ctx.Err())
			p.stop()
		}
	}
	if p.in != nil {
		p.in.Close() // a stranger to the group may hold the other end
	}
	readers.Wait()
	p.finish()

	select {
	case <-overflow:
		if stopped == nil {
			stopped = fmt.Errorf("it printed more than %d bytes", o.spec.maxOutput())
		}
	default:
	}
	code, exited, words := p.ending()
	if stopped == nil && !exited {
		stopped = errors.New(words)
	}
	reply := channel.Reply{Exit: code, Data: out.Bytes(), Stderr: ers.Bytes()}
	if stopped != nil {
		o.spec.log().Warn("a run did not end in order", "pid", p.pid, "why", stopped)
		return reply, unknown(stopped)
	}
	return reply, nil
}

// Status is ready when the tool could be started now.
func (o *OneShot) Status() channel.Status {
	err := o.invalid
	if err == nil {
		err = o.vetter.vet(o.spec.Tool, o.spec.SHA256, o.spec.TrustOwner)
	}
	if err != nil {
		return channel.Status{State: channel.StateDown, LastError: blame(err)}
	}
	return channel.Status{State: channel.StateReady}
}

// Close ends every child and returns when they are gone.
func (o *OneShot) Close() error {
	o.mu.Lock()
	o.close()
	o.mu.Unlock()
	o.running.Wait()
	return nil
}

func notStarted(err error) error { return fmt.Errorf("%w: %w", channel.ErrNotStarted, err) }

func unknown(err error) error { return fmt.Errorf("%w: %w", channel.ErrUnknown, err) }
