package wire

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ClientOptions say where the gateway is and whom to believe that it is it.
type ClientOptions struct {
	Socket    string
	ServerUID uint32
	// DialTimeout is for the gateway to show that it is there: from Dial until
	// its first line, whatever is asked. 0 means 2 s.
	DialTimeout time.Duration
}

// maxAnswer bounds a line of the gateway's, whose own bound is configured.
const maxAnswer = 64 << 20

// Client is one connection to the gateway. Its methods are safe for concurrent
// use.
//
// There is no goroutine behind it while calls can do the reading: one of the
// calls that wait reads for all of them. Only a client that listens to
// notifications gets one, when its first call has ended.
type Client struct {
	sock   *socket
	path   string
	budget time.Duration // what Dial left of DialTimeout
	notify func(string, json.RawMessage)

	wmu  sync.Mutex
	wbuf []byte

	lead    chan struct{} // holds one token while somebody reads; guards rbuf
	rbuf    []byte
	rstart  int
	rend    int
	scanned int // no newline between rstart and here

	ended chan struct{} // closed after err is set

	mu         sync.Mutex
	until      time.Time // by when the gateway must have said something; set by the first call
	heard      bool      // it has
	background bool      // a goroutine reads
	last       int64
	waiting    map[int64]chan answer
	err        error // why there will be no more answers
}

// Dial connects, and checks with the kernel that the process that listens runs
// as o.ServerUID before anything is said. The error is an *UnreachableError,
// or that of ctx.
func Dial(ctx context.Context, o ClientOptions) (*Client, error) {
	until := time.Now().Add(orDefault(o.DialTimeout, 2*time.Second))
	c := &Client{
		path:    o.Socket,
		lead:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		waiting: make(map[int64]chan answer),
	}
	var err error
	if c.sock, err = c.connect(ctx, until); err != nil {
		return nil, err
	}
	who, err := c.sock.peer()
	if err == nil && who.UID != o.ServerUID {
		err = fmt.Errorf("%w (its uid is %d, not %d)", ErrWrongServer, who.UID, o.ServerUID)
	}
	if err != nil {
		c.sock.close()
		return nil, c.unreachable(err)
	}
	c.budget = max(time.Until(until), 0)
	return c, nil
}

// connect tries again while the server's queue of connections is full.
func (c *Client) connect(ctx context.Context, until time.Time) (*socket, error) {
	for {
		s, err := connectSocket(c.path)
		switch {
		case err == nil:
			return s, nil
		case !errors.Is(err, unix.EAGAIN):
			return nil, c.unreachable(err)
		case time.Now().After(until):
			return nil, c.unreachable(ErrSilent)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *Client) unreachable(err error) error {
	return &UnreachableError{Socket: c.path, Err: err}
}

// OnNotify says who is told of notifications: fn is called in their order and
// before the answer to the request that caused them, one at a time. Meanwhile
// nothing else is read, and the gateway gives up on a client that does not
// read for long; fn must not call the client. It must be set before the first
// Call.
func (c *Client) OnNotify(fn func(method string, params json.RawMessage)) { c.notify = fn }

// Call asks and waits for the answer, which it decodes into result unless that
// is nil. Nil params are left out; params that are a json.RawMessage must be a
// valid object. A result that is a *json.RawMessage gets the answer as it
// stands.
//
// The error is an *Error when the gateway said so, an *UnreachableError when
// it did not answer, and that of ctx when that ended first; then the gateway
// goes on with the request until the connection is closed.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	id, mine, err := c.ask(ctx, method, params)
	if err != nil {
		return err
	}
	a, err := c.await(ctx, mine)
	c.forget(id)
	if err != nil {
		return err
	}
	if a.problem != nil {
		return a.problem
	}
	switch result := result.(type) {
	case nil:
		return nil
	case *json.RawMessage:
		*result = a.result
		return nil
	}
	if err := json.Unmarshal(a.result, result); err != nil {
		return fmt.Errorf("the gateway's answer to %s: %w", method, err)
	}
	return nil
}

func (c *Client) ask(ctx context.Context, method string, params any) (int64, chan answer, error) {
	id, mine, written, err := c.send(ctx, method, params)
	switch {
	case err == nil:
		return id, mine, nil
	case written < 0: // nothing is wrong with the connection
		return 0, nil, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.fail(c.unreachable(ErrSilent))
	case ctx.Err() != nil:
		if written > 0 { // half a line: nothing can follow it
			c.fail(c.unreachable(err))
		}
		return 0, nil, ctx.Err()
	default:
		c.lastWords()
	}
	return 0, nil, c.failed()
}

// send writes one request. It returns how many bytes of it were written, less
// than none if it did not come to that.
func (c *Client) send(ctx context.Context, method string, params any) (id int64, mine chan answer, written int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	mine = make(chan answer, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return 0, nil, -1, c.err
	}
	if c.last == 0 {
		c.until = time.Now().Add(c.budget)
	}
	c.last++
	id = c.last
	c.waiting[id] = mine
	var until time.Time
	if !c.heard {
		until = c.until
	}
	c.mu.Unlock()

	line, err := appendRequest(c.wbuf[:0], id, method, params)
	if err != nil {
		c.forget(id)
		return 0, nil, -1, err
	}
	c.wbuf = line
	if written, err = c.sock.write(ctx, line, until); err != nil {
		c.forget(id)
		return 0, nil, written, err
	}
	return id, mine, written, nil
}

// lastWords reads to the end of a connection that cannot be written to: the
// gateway may have said why it closed before it did.
func (c *Client) lastWords() {
	until := time.Now().Add(time.Second)
	select {
	case c.lead <- struct{}{}:
		for c.failed() == nil {
			if errors.Is(c.readOne(context.Background(), until), os.ErrDeadlineExceeded) {
				c.fail(c.unreachable(ErrClosed))
			}
		}
		<-c.lead
	case <-c.ended:
	case <-time.After(time.Until(until)): // who reads is held up
		c.fail(c.unreachable(ErrClosed))
	}
}

func (c *Client) forget(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *Client) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// await waits for one answer, reading for everybody if nobody else does.
func (c *Client) await(ctx context.Context, mine chan answer) (answer, error) {
	for {
		select {
		case a := <-mine:
			return a, nil
		case <-c.ended:
			select { // both may be true
			case a := <-mine:
				return a, nil
			default:
				return answer{}, c.failed()
			}
		case <-ctx.Done():
			return answer{}, ctx.Err()
		case c.lead <- struct{}{}:
			c.readFor(ctx, mine)
			<-c.lead
		}
	}
}

// readFor reads until mine has its answer, the context ends or the connection
// does. The caller holds the token.
//
// Until the gateway has said anything at all it has little time: when half of
// it is over it is sent a ping, which a gateway that is busy with what was
// asked answers at once.
func (c *Client) readFor(ctx context.Context, mine chan answer) {
	pinged := false
	for len(mine) == 0 && ctx.Err() == nil && c.failed() == nil {
		until := c.silentUntil()
		if !until.IsZero() && !pinged {
			until = until.Add(-time.Until(until) / 2)
		}
		err := c.readOne(ctx, until)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if pinged {
			c.fail(c.unreachable(ErrSilent))
			return
		}
		pinged = true
		if id, _, _, err := c.send(ctx, "ping", nil); err == nil {
			c.forget(id) // it is enough that something is heard
		}
	}
	if c.notify != nil {
		c.readOn()
	}
}

// silentUntil returns by when the gateway must have said something; zero if it
// has.
func (c *Client) silentUntil() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard {
		return time.Time{}
	}
	return c.until
}

// readOn starts the goroutine that reads when no call does.
func (c *Client) readOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.background || c.err != nil {
		return
	}
	c.background = true
	go func() {
		select {
		case c.lead <- struct{}{}: // and keeps it
		case <-c.ended:
			return
		}
		for c.failed() == nil {
			c.readOne(context.Background(), time.Time{})
		}
		<-c.lead
	}()
}

// fail ends the connection; the first reason stands.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		close(c.ended)
	}
	c.mu.Unlock()
	c.sock.close()
}

// readOne reads one line and hands it to whom it is for. An error that is not
// ctx's or the deadline's has ended the connection. The caller holds the
// token.
func (c *Client) readOne(ctx context.Context, until time.Time) error {
	line, err := c.readLine(ctx, until)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return err
	default:
		if err == io.EOF || errors.Is(err, unix.ECONNRESET) {
			err = ErrClosed
		}
		c.fail(c.unreachable(err))
		return err
	}
	a, err := parseAnswer(line)
	if err != nil {
		err = c.unreachable(fmt.Errorf("the gateway does not speak the protocol: %w", err))
	} else {
		err = c.take(a)
	}
	if err != nil {
		c.fail(err)
	}
	return err
}

func (c *Client) readLine(ctx context.Context, until time.Time) ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.rbuf[c.scanned:c.rend], '\n'); i >= 0 {
			line := c.rbuf[c.rstart : c.scanned+i]
			c.rstart = c.scanned + i + 1
			c.scanned = c.rstart
			return line, nil
		}
		if c.rstart > 0 {
			c.rend = copy(c.rbuf, c.rbuf[c.rstart:c.rend])
			c.rstart = 0
		}
		c.scanned = c.rend
		if c.rend == len(c.rbuf) {
			if c.rend > maxAnswer {
				return nil, errTooLong
			}
			bigger := make([]byte, max(4<<10, 2*len(c.rbuf)))
			copy(bigger, c.rbuf)
			c.rbuf = bigger
		}
		n, err := c.sock.read(ctx, c.rbuf[c.rend:], until)
		if err != nil {
			return nil, err
		}
		c.rend += n
	}
}

// take hands on what was read. An error without an id is the reason why the
// gateway is about to close.
func (c *Client) take(a answer) error {
	c.mu.Lock()
	c.heard = true
	c.mu.Unlock()
	if a.method != "" {
		if c.notify != nil {
			c.notify(a.method, bytes.Clone(a.params))
		}
		return nil
	}
	id, ok := integer(a.id)
	if !ok {
		if a.problem != nil {
			return a.problem
		}
		return c.unreachable(errors.New("the gateway answered nothing that was asked"))
	}
	a.id = nil
	a.result = bytes.Clone(a.result)
	c.mu.Lock()
	defer c.mu.Unlock()
	if mine := c.waiting[id]; mine != nil {
		delete(c.waiting, id)
		mine <- a // buffered, and sent once
	}
	return nil
}

// SendFile transfers size bytes of r and returns the handle by which a later
// call on this connection names the file. A reader that has fewer or more is
// an error.
func (c *Client) SendFile(ctx context.Context, name string, size int64, r io.Reader) (handle string, err error) {
	var opened fileOpenResult
	if err := c.Call(ctx, "file.open", fileOpenParams{Name: name, Size: size}, &opened); err != nil {
		return "", err
	}
	// A quarter of the bound, which fits into a line even where max_message is
	// made smaller.
	buf := make([]byte, min(size+1, maxChunk/4))
	sum := newDigest()
	var sent int64
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			sent += int64(n)
			if sent > size {
				return "", fmt.Errorf("send %s: it is longer than %d bytes", Escape(name), size)
			}
			sum.write(buf[:n])
			p := fileDataParams{File: opened.File, Data: base64.StdEncoding.EncodeToString(buf[:n])}
			if err := c.Call(ctx, "file.data", p, nil); err != nil {
				return "", err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return "", fmt.Errorf("send %s: %w", Escape(name), err)
		}
	}
	if sent != size {
		return "", fmt.Errorf("send %s: it is shorter than %d bytes", Escape(name), size)
	}
	p := fileCloseParams{File: opened.File, SHA256: sum.hex()}
	if err := c.Call(ctx, "file.close", p, nil); err != nil {
		return "", err
	}
	return opened.File, nil
}

// Close ends the connection, and with it every request that still runs.
func (c *Client) Close() error {
	c.fail(c.unreachable(os.ErrClosed))
	return nil
}
