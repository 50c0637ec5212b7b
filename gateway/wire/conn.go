package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is one connection of a client, as a Handler sees it. Its methods are
// safe for concurrent use.
type Conn struct {
	nc    *os.File // the socket; a file in name only
	id    Identity
	lim   Limits
	files *Files

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	wmu  sync.Mutex
	wbuf bytes.Buffer
	dead bool // a line could not be written whole; nothing can follow it

	rmu     sync.Mutex
	stopped bool // no further line is read; a deadline in the past stands

	// Of the reading goroutine alone.
	rbuf   []byte
	start  int // of what was not yet taken from rbuf
	end    int
	oob    []byte
	inLine time.Time // when the first byte of the unfinished line was here
}

// What ends the reading of a connection, apart from its own end.
var (
	errDescriptor = errors.New("a descriptor was passed")
	errLongLine   = errors.New("the line is too long")
)

func newConn(nc *os.File, id Identity, lim Limits) *Conn {
	return &Conn{nc: nc, id: id, lim: lim, rbuf: make([]byte, 4<<10), oob: make([]byte, oobSize)}
}

// oobSize holds the most descriptors that one message can carry (253 on Linux,
// 4 bytes each, and a header), so that the kernel never installs one that we
// do not see.
const oobSize = 64 + 254*4

// Identity returns who the client is, from the kernel.
func (c *Conn) Identity() Identity { return c.id }

// Context ends when the connection does. What lives longer than one request
// (a session, a watch) hangs on it.
func (c *Conn) Context() context.Context { return c.ctx }

// Files returns what the client has transferred on this connection; nil when
// the server takes no files (a nil *Files holds none).
func (c *Conn) Files() *Files { return c.files }

// Notify sends a notification. It waits until the kernel has taken it, at most
// Limits.WriteTimeout; a client that does not read that fast loses its
// connection. Params longer than a line may be are refused and do no harm.
func (c *Conn) Notify(method string, params any) error {
	return c.write(notifyLine{Version: version, Method: method, Params: params})
}

func (c *Conn) write(line any) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.dead {
		return os.ErrClosed
	}
	// Encoding under the lock bounds the memory of a connection to one line,
	// however many answers wait.
	if err := appendLine(&c.wbuf, line, c.lim.MaxMessage); err != nil {
		return err
	}
	c.nc.SetWriteDeadline(time.Now().Add(c.lim.WriteTimeout))
	_, err := c.nc.Write(c.wbuf.Bytes())
	if c.wbuf.Cap() > 64<<10 {
		c.wbuf = bytes.Buffer{}
	}
	if err != nil {
		c.dead = true
		c.cancel()
		c.nc.Close()
		return fmt.Errorf("write to the client: %w", err)
	}
	return nil
}

// readLine returns the next line without its newline, valid until the next
// call.
func (c *Conn) readLine() ([]byte, error) {
	scanned := c.start
	for {
		if i := bytes.IndexByte(c.rbuf[scanned:c.end], '\n'); i >= 0 {
			line := c.rbuf[c.start : scanned+i]
			c.start = scanned + i + 1
			c.inLine = time.Time{}
			if len(line) > c.lim.MaxMessage {
				return nil, errLongLine
			}
			return line, nil
		}
		c.room()
		scanned = c.end
		if c.end-c.start > c.lim.MaxMessage {
			return nil, errLongLine
		}
		if c.end == c.start {
			c.inLine = time.Time{}
		} else if c.inLine.IsZero() {
			c.inLine = time.Now()
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// restartLine gives the unfinished line its whole time again, after the
// server itself was the one who waited.
func (c *Conn) restartLine() {
	if !c.inLine.IsZero() {
		c.inLine = time.Now()
	}
}

// room makes space behind c.end: by moving the unfinished line to the front,
// by growing for a long line, by shrinking after one.
func (c *Conn) room() {
	if c.start == c.end && len(c.rbuf) > 64<<10 {
		c.rbuf = make([]byte, 4<<10)
		c.start, c.end = 0, 0
	}
	if c.start > 0 {
		c.end = copy(c.rbuf, c.rbuf[c.start:c.end])
		c.start = 0
	}
	if c.end == len(c.rbuf) {
		bigger := make([]byte, min(4*len(c.rbuf), c.lim.MaxMessage+4<<10))
		copy(bigger, c.rbuf[:c.end])
		c.rbuf = bigger
	}
}

// fill reads once. A line that was begun has a deadline; silence between lines
// has none.
func (c *Conn) fill() error {
	var deadline time.Time
	if !c.inLine.IsZero() {
		deadline = c.inLine.Add(c.lim.LineTimeout)
	}
	if err := c.setReadDeadline(deadline); err != nil {
		return err
	}
	n, oobn, flags, err := receive(c.nc, c.rbuf[c.end:], c.oob)
	if oobn > 0 || flags&unix.MSG_CTRUNC != 0 {
		closePassed(c.oob[:oobn])
		return errDescriptor
	}
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	c.end += n
	return nil
}

// receive is recvmsg, waiting as Read does.
func receive(f *os.File, p, oob []byte) (n, oobn, flags int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, 0, 0, err
	}
	var inner error
	err = raw.Read(func(fd uintptr) bool {
		inner = ignoringEINTR(func() (err error) {
			n, oobn, flags, _, err = unix.Recvmsg(int(fd), p, oob, recvFlags)
			return err
		})
		return inner != unix.EAGAIN
	})
	if err == nil {
		err = inner
	}
	return max(n, 0), oobn, flags, err
}

// setReadDeadline must not undo the deadline with which stopReading wakes the
// reader.
func (c *Conn) setReadDeadline(t time.Time) error {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if c.stopped {
		return os.ErrClosed
	}
	return c.nc.SetReadDeadline(t)
}

// stopReading wakes the reading goroutine and lets it read nothing more.
func (c *Conn) stopReading() {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	c.stopped = true
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

func closePassed(oob []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// gone reports whether the client has closed its end for good. A client that
// only shut down its writing half is still there. It does not block.
func (c *Conn) gone() bool {
	raw, err := c.nc.SyscallConn()
	if err != nil {
		return true
	}
	hup := true
	raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		hup = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
	})
	return hup
}
