package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Handler carries out requests. Handle is called concurrently, also for one
// connection. The context ends when the client is gone. What it returns is
// encoded with encoding/json (nil as an empty object) and must not be longer
// than a line. An *Error anywhere in the chain of an error is told to the
// client as it is; of any other error the client learns only that there was
// one, and the log the rest.
type Handler interface {
	Handle(ctx context.Context, c *Conn, r *Request) (any, error)
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ctx context.Context, c *Conn, r *Request) (any, error)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, c *Conn, r *Request) (any, error) {
	return f(ctx, c, r)
}

// Logger is what a Server needs of a *slog.Logger. That package itself is not
// linked into what only calls.
type Logger interface {
	Debug(msg string, args ...any)
	Warn(msg string, args ...any)
	Error(msg string, args ...any)
}

type silence struct{}

func (silence) Debug(string, ...any) {}
func (silence) Warn(string, ...any)  {}
func (silence) Error(string, ...any) {}

// Server serves connections. It is not changed while it serves.
type Server struct {
	Handler Handler
	Limits  Limits
	Log     Logger // nil: nothing is logged
	// Admit judges a connection before a byte of it is read; nil admits
	// everybody who could reach the socket. An *Error is told to the client.
	Admit func(Identity) error
	// Allow judges every request before it is carried out, file.* included,
	// in the order in which they stand; nil allows all. Errors are treated as
	// a handler's.
	Allow func(id Identity, method string) error
	// Stage takes files; nil: file.* are unknown methods.
	Stage *Stage
}

// Serve answers the connections of l until ctx is done. It then stops
// listening and reading, lets running requests go on for Limits.Drain, cancels
// them, and waits as long again; what still runs then is an error. It closes
// l.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	v := &serving{
		Server: s,
		lim:    s.Limits.filled(),
		log:    s.Log,
		stop:   ctx.Done(),
		conns:  make(map[*Conn]struct{}),
		perUID: make(map[uint32]int),
		runs:   make(map[uint32]chan struct{}),
	}
	if v.log == nil {
		v.log = silence{}
	}
	all, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	v.ctx = all

	unlisten := context.AfterFunc(ctx, func() { l.stop() })
	defer unlisten()
	err := v.accept(ctx, l)
	closed := l.Close()
	v.stopReading()
	if !v.ended(v.lim.Drain) {
		cancel()
		if !v.ended(v.lim.Drain) {
			return errors.Join(err, errors.New("requests are still running"))
		}
	}
	return errors.Join(err, closed)
}

// serving is one run of Serve.
type serving struct {
	*Server
	lim  Limits
	log  Logger
	ctx  context.Context // of all requests
	stop <-chan struct{} // no more is read

	wg     sync.WaitGroup
	mu     sync.Mutex
	conns  map[*Conn]struct{}
	perUID map[uint32]int
	runs   map[uint32]chan struct{} // one for each request of a user that runs
}

func (v *serving) accept(ctx context.Context, l *Listener) error {
	var wait time.Duration
	for {
		nc, err := l.accept()
		if err == nil {
			wait = 0
			v.take(nc)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if !passing(err) {
			return fmt.Errorf("accept: %w", err)
		}
		// Out of descriptors or memory: the connections that are there go on,
		// and give some back.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		v.log.Warn("no connection can be accepted", "err", err, "wait", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func passing(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EINTR, unix.EPROTO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// take judges a new connection and serves it or sends it away.
func (v *serving) take(nc *os.File) {
	id, err := PeerOf(nc)
	if err != nil {
		nc.Close()
		v.log.Debug("connection without an identity", "err", err)
		return
	}
	c := newConn(nc, id, v.lim)
	c.ctx, c.cancel = context.WithCancel(v.ctx)
	if err := v.admit(c); err != nil {
		c.write(errorLine{Version: version, Error: err})
		c.cancel()
		nc.Close()
		v.log.Debug("connection refused", "uid", id.UID, "pid", id.PID, "reason", err.Message)
		return
	}
	v.wg.Go(func() {
		defer v.recovered("a connection")
		v.serve(c)
	})
}

func (v *serving) admit(c *Conn) *Error {
	if v.Admit != nil {
		if err := v.Admit(c.id); err != nil {
			if e, ok := errors.AsType[*Error](err); ok {
				return e
			}
			return refusal(CodeCommand, "this user may not use the gateway").
				withHint("an administrator lists the users who may under clients in config.yaml")
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case len(v.conns) >= v.lim.MaxConnections:
		return refusal(CodeUnavailable, "the gateway has too many connections").
			withHint("try again when other programs have ended theirs")
	case v.perUID[c.id.UID] >= v.lim.MaxPerUID:
		return refusal(CodeUnavailable, "this user has too many connections to the gateway").
			withHint("end programs that keep one open")
	}
	v.conns[c] = struct{}{}
	if v.perUID[c.id.UID]++; v.runs[c.id.UID] == nil {
		v.runs[c.id.UID] = make(chan struct{}, v.lim.MaxRunPerUID)
	}
	return nil
}

func (v *serving) leave(c *Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, c)
	if v.perUID[c.id.UID]--; v.perUID[c.id.UID] <= 0 {
		delete(v.perUID, c.id.UID)
		delete(v.runs, c.id.UID)
	}
}

// runsOf returns what bounds the running requests of a user who is connected.
func (v *serving) runsOf(uid uint32) chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.runs[uid]
}

func (v *serving) stopReading() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.conns {
		c.stopReading()
	}
}

// ended waits until all connections have ended, at most for d.
func (v *serving) ended(d time.Duration) bool {
	done := make(chan struct{})
	go func() { v.wg.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// serve reads one connection to its end. It returns, and gives back the
// connection's place, only when its last request has ended: otherwise a client
// could run any number by connecting again.
func (v *serving) serve(c *Conn) {
	f := &flow{serving: v, c: c, slots: make(chan struct{}, v.lim.MaxInFlight), runs: v.runsOf(c.id.UID), ids: make(map[string]struct{})}
	defer v.leave(c)
	if v.Stage != nil {
		c.files = v.Stage.Files(c.id.UID)
		defer c.files.Release()
	}
	defer f.wg.Wait()
	defer c.nc.Close()
	defer c.cancel()

	err := f.read()
	switch {
	case errors.Is(err, errLongLine):
		f.answerError(nil, refusal(CodeInvalidRequest, "the line is longer than %d bytes", v.lim.MaxMessage))
	case errors.Is(err, io.EOF), v.stopping():
		f.finish() // half closed, or the server ends: what was asked is answered
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.answerError(nil, refusal(CodeInvalidRequest, "the line was not complete within %s", v.lim.LineTimeout))
	}
	v.log.Debug("connection ended", "uid", c.id.UID, "pid", c.id.PID, "err", err)
}

func (v *serving) stopping() bool {
	select {
	case <-v.stop:
		return true
	default:
		return false
	}
}

// flow is what runs on one connection.
type flow struct {
	*serving
	c     *Conn
	wg    sync.WaitGroup
	slots chan struct{} // one for each request that runs
	runs  chan struct{} // the same over all connections of the user

	mu  sync.Mutex
	ids map[string]struct{} // of the requests that run
}

var errEnough = errors.New("the client does not speak the protocol")

// read takes lines until the connection cannot or should not be read further.
func (f *flow) read() error {
	bad := 0
	for {
		line, err := f.c.readLine()
		if err != nil {
			return err
		}
		r, e := parseRequest(line)
		switch {
		case e == nil && r.ID == nil:
			f.answerError(nil, refusal(CodeInvalidRequest, "a request must have an id"))
			return errEnough
		case e == nil:
			bad = 0
			if err := f.request(r); err != nil {
				return err
			}
		default:
			f.answerError(r.ID, e)
			if bad++; bad >= maxBadLines {
				return errEnough
			}
		}
	}
}

// request starts one request, or answers it at once.
func (f *flow) request(r *Request) error {
	if f.c.gone() {
		return os.ErrClosed
	}
	if f.Allow != nil {
		if err := f.Allow(f.c.id, r.Method); err != nil {
			f.answerError(r.ID, f.told(r, err))
			return nil
		}
	}
	if f.c.files != nil {
		if do := fileMethod(r.Method); do != nil {
			result, err := do(f.c.files, r.Params)
			f.answer(r, result, err)
			return nil
		}
	}
	if err := f.slot(); err != nil {
		return err
	}
	key := string(r.ID)
	f.mu.Lock()
	_, twice := f.ids[key]
	f.ids[key] = struct{}{}
	f.mu.Unlock()
	if twice {
		f.free()
		f.answerError(nil, refusal(CodeInvalidRequest, "a request with this id is still running"))
		return nil
	}
	f.wg.Go(func() {
		defer f.free()
		result, err := f.handle(r)
		f.mu.Lock()
		delete(f.ids, key)
		f.mu.Unlock()
		f.answer(r, result, err)
	})
	return nil
}

// slot waits until another request may run. The connection is not read
// meanwhile, so its loss has to be looked for.
func (f *flow) slot() error {
	if err := f.await(f.slots); err != nil {
		return err
	}
	if err := f.await(f.runs); err != nil {
		<-f.slots
		return err
	}
	return nil
}

func (f *flow) free() {
	<-f.runs
	<-f.slots
}

func (f *flow) await(slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	defer f.c.restartLine()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case slots <- struct{}{}:
			return nil
		case <-tick.C:
			if f.c.gone() {
				return os.ErrClosed
			}
		case <-f.stop:
			return os.ErrClosed
		case <-f.c.ctx.Done():
			return os.ErrClosed
		}
	}
}

// finish waits for the requests that run, as long as somebody can be answered.
func (f *flow) finish() {
	done := make(chan struct{})
	go func() { f.wg.Wait(); close(done) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !f.c.gone() {
		select {
		case <-done:
			return
		case <-f.c.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// handle runs the handler. A panic is an answer like any other error: one
// request must not end the gateway.
func (f *flow) handle(r *Request) (result any, err error) {
	err = refusal(CodeInternal, "internal error") // what a panic leaves
	defer f.recovered("a handler")
	return f.Handler.Handle(f.c.ctx, f.c, r)
}

// recovered is deferred where a panic must not end the gateway.
func (v *serving) recovered(where string) {
	if p := recover(); p != nil {
		v.log.Error("panic in "+where, "panic", fmt.Sprint(p), "stack", stack())
	}
}

func (f *flow) answer(r *Request, result any, err error) {
	if err != nil {
		f.answerError(r.ID, f.told(r, err))
		return
	}
	if result == nil {
		result = struct{}{}
	}
	switch err := f.c.write(resultLine{Version: version, ID: r.ID, Result: result}); {
	case err == nil, errors.Is(err, os.ErrClosed):
	case errors.Is(err, errTooLong):
		f.answerError(r.ID, &Error{Code: CodeInternal, Message: "the answer is longer than a message may be",
			Data: &ErrorData{Hint: "ask for less at a time"}})
	case f.c.ctx.Err() == nil:
		f.log.Error("an answer cannot be encoded", "method", Escape(r.Method), "err", err)
		f.answerError(r.ID, refusal(CodeInternal, "internal error"))
	}
}

// told turns an error into what the client may know of it.
func (f *flow) told(r *Request, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		if error(e) != err {
			f.log.Warn("request failed", "method", Escape(r.Method), "err", err)
		}
		return e
	}
	if f.c.ctx.Err() == nil {
		f.log.Error("request failed", "method", Escape(r.Method), "err", err)
	}
	return refusal(CodeInternal, "internal error")
}

func (f *flow) answerError(id json.RawMessage, e *Error) {
	f.c.write(errorLine{Version: version, ID: id, Error: e})
}

// stack returns the calls that led here.
func stack() string {
	b := make([]byte, 16<<10)
	return string(b[:runtime.Stack(b, false)])
}
