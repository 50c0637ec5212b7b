package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ClientOptions say where the gateway is and whom to believe that it is it.
type ClientOptions struct {
	Socket    string
	ServerUID uint32
	// DialTimeout is for the gateway to show that it is there: from Dial until
	// the first line of it, whatever is asked. 0 means 2 s.
	DialTimeout time.Duration
}

// maxAnswer bounds a line of the gateway's, whose own bound is configured.
const maxAnswer = 64 << 20

// Client is one connection to the gateway. Its methods are safe for concurrent
// use.
type Client struct {
	nc     *net.UnixConn
	socket string
	until  time.Time // by when the gateway must have said something

	start  sync.Once // of the reading goroutine
	notify func(string, json.RawMessage)
	heard  chan struct{} // closed by the first line
	ended  chan struct{} // closed after err is set

	wmu  sync.Mutex
	wbuf bytes.Buffer

	mu      sync.Mutex
	last    int64
	waiting map[int64]chan incomingLine
	err     error // why there will be no more answers
}

// Dial connects, and checks with the kernel that the process that listens runs
// as o.ServerUID before anything is said. The error is an *UnreachableError,
// or that of ctx.
func Dial(ctx context.Context, o ClientOptions) (*Client, error) {
	timeout := orDefault(o.DialTimeout, 2*time.Second)
	c := &Client{
		socket:  o.Socket,
		until:   time.Now().Add(timeout),
		heard:   make(chan struct{}),
		ended:   make(chan struct{}),
		waiting: make(map[int64]chan incomingLine),
	}
	nc, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	who, err := PeerOf(nc)
	if err == nil && who.UID != o.ServerUID {
		err = fmt.Errorf("%w (its uid is %d, not %d)", ErrWrongServer, who.UID, o.ServerUID)
	}
	if err != nil {
		nc.Close()
		return nil, c.unreachable(err)
	}
	c.nc = nc
	return c, nil
}

// connect tries again while the server's queue of connections is full.
func (c *Client) connect(ctx context.Context) (*net.UnixConn, error) {
	for {
		nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.socket, Net: "unix"})
		if err == nil {
			return nc, nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, c.unreachable(err)
		}
		if time.Now().After(c.until) {
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
	return &UnreachableError{Socket: c.socket, Err: err}
}

// OnNotify says who is told of notifications: fn is called in their order,
// before the answer to a request that caused them is returned, and holds up
// everything that follows; the gateway gives up on a client that does not read
// for long. It must be called before the first Call, and params are fn's to
// keep.
func (c *Client) OnNotify(fn func(method string, params json.RawMessage)) { c.notify = fn }

// Call asks and waits for the answer, which it decodes into result unless that
// is nil. Nil params are left out. The error is an *Error when the gateway
// said so, an *UnreachableError when it did not answer, and that of ctx when
// that ended first; then the gateway goes on with the request until the
// connection is closed.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	id, answer, err := c.ask(ctx, method, params)
	if err != nil {
		return err
	}
	defer c.forget(id)
	line, err := c.await(ctx, answer)
	if err != nil {
		return err
	}
	if line.Error != nil {
		return line.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(line.Result, result); err != nil {
		return fmt.Errorf("the gateway's answer to %s: %w", method, err)
	}
	return nil
}

func (c *Client) ask(ctx context.Context, method string, params any) (int64, chan incomingLine, error) {
	c.start.Do(func() { go c.read() })
	answer := make(chan incomingLine, 1)
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return 0, nil, err
	}
	c.last++
	id := c.last
	c.waiting[id] = answer
	c.mu.Unlock()

	c.wmu.Lock()
	defer c.wmu.Unlock()
	deadline, _ := ctx.Deadline()
	select {
	case <-c.heard:
	default:
		if deadline.IsZero() || c.until.Before(deadline) {
			deadline = c.until
		}
	}
	c.nc.SetWriteDeadline(deadline)
	if err := appendLine(&c.wbuf, requestLine{Version: version, ID: &id, Method: method, Params: params}, maxAnswer); err != nil {
		c.forget(id)
		return 0, nil, err
	}
	if _, err := c.nc.Write(c.wbuf.Bytes()); err != nil {
		// The gateway may have said why it closed before it did.
		c.forget(id)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.fail(c.unreachable(ErrSilent))
		}
		select {
		case <-c.ended:
		case <-time.After(time.Second):
			c.fail(c.unreachable(ErrClosed))
		}
		return 0, nil, c.failed()
	}
	return id, answer, nil
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

// await waits for one answer. Until the gateway has said anything at all it
// has little time: when half of it is over it is sent a ping, which a gateway
// that is busy with what was asked answers at once.
func (c *Client) await(ctx context.Context, answer chan incomingLine) (incomingLine, error) {
	var patience <-chan time.Time
	pinged := false
	select {
	case <-c.heard:
	default:
		t := time.NewTimer(time.Until(c.until) / 2)
		defer t.Stop()
		patience = t.C
	}
	heard := c.heard
	for {
		select {
		case line := <-answer:
			return line, nil
		case <-c.ended:
			select { // both may be true
			case line := <-answer:
				return line, nil
			default:
				return incomingLine{}, c.failed()
			}
		case <-ctx.Done():
			return incomingLine{}, ctx.Err()
		case <-heard:
			heard, patience = nil, nil
		case <-patience:
			if pinged {
				c.fail(c.unreachable(ErrSilent))
				return incomingLine{}, c.failed()
			}
			pinged = true
			patience = time.After(time.Until(c.until))
			go c.ask(ctx, "ping", nil) // its answer is known by being heard
		}
	}
}

// fail ends the connection; the first reason stands.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		close(c.ended)
	}
	c.mu.Unlock()
	c.nc.Close()
}

// read takes the gateway's lines until the connection ends.
func (c *Client) read() {
	r := bufio.NewReaderSize(c.nc, 16<<10)
	first := true
	for {
		text, err := readAnswer(r)
		if err != nil {
			if err == io.EOF || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) {
				err = ErrClosed
			}
			c.fail(c.unreachable(err))
			return
		}
		if first {
			close(c.heard)
			first = false
		}
		var line incomingLine
		if err := json.Unmarshal(text, &line); err != nil {
			c.fail(c.unreachable(fmt.Errorf("the gateway does not speak the protocol: %w", err)))
			return
		}
		if err := c.take(line); err != nil {
			c.fail(err)
			return
		}
	}
}

func readAnswer(r *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if err == nil && long == nil {
			return part, nil // valid until the next read; Unmarshal copies
		}
		if len(long)+len(part) > maxAnswer {
			return nil, errTooLong
		}
		long = append(long, part...)
		switch {
		case err == nil:
			return long, nil
		case err != bufio.ErrBufferFull:
			return nil, err
		}
	}
}

// take hands a line to whom it is for. An error without an id is the reason
// why the gateway is about to close.
func (c *Client) take(line incomingLine) error {
	if line.Method != "" {
		if c.notify != nil {
			c.notify(line.Method, line.Params)
		}
		return nil
	}
	id, err := strconv.ParseInt(string(line.ID), 10, 64)
	if err != nil {
		if line.Error != nil {
			return line.Error
		}
		return c.unreachable(errors.New("the gateway answered nothing that was asked"))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer := c.waiting[id]; answer != nil {
		delete(c.waiting, id)
		answer <- line // buffered, and sent once
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
	sum := sha256.New()
	var sent int64
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			sent += int64(n)
			if sent > size {
				return "", fmt.Errorf("send %s: it is longer than %d bytes", Escape(name), size)
			}
			sum.Write(buf[:n])
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
	p := fileCloseParams{File: opened.File, SHA256: hex.EncodeToString(sum.Sum(nil))}
	if err := c.Call(ctx, "file.close", p, nil); err != nil {
		return "", err
	}
	return opened.File, nil
}

// Close ends the connection, and with it every request that still runs.
func (c *Client) Close() error {
	c.fail(c.unreachable(net.ErrClosed))
	return nil
}
