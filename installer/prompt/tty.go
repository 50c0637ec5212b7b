package prompt

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Survey asks the terminal where the cursor is (ESC [ 6 n) before it reads a
// line, and waits for the answer for ever. A terminal answers at once; a pipe
// dressed up as one (expect, a CI system, a serial line) never does, and
// survey would hang with the question on the screen. It also reads more than
// its line and throws the rest away, which loses what was typed ahead. input
// and output stand between the two and mend both.

// The question, how long a terminal may take for its first answer (a slow line
// across the world takes a third of that), and how a terminal says the end.
const (
	whereIsCursor = "\x1b[6n"
	patience      = 700 * time.Millisecond
	endOfInput    = '\x04' // Ctrl-D
)

// input gives survey one line, or one answer of the terminal, at a time.
type input struct {
	file    *os.File
	typed   []byte // read and not yet given out
	answers []byte // to cursor questions, given out first
	mute    bool   // this terminal answers no questions
	tried   bool
}

// Fd implements terminal.FileReader.
func (i *input) Fd() uintptr { return i.file.Fd() }

// Read implements terminal.FileReader.
func (i *input) Read(p []byte) (int, error) {
	if len(i.answers) > 0 {
		n := copy(p, i.answers)
		i.answers = i.answers[n:]
		return n, nil
	}
	for len(i.typed) == 0 {
		if err := i.fill(); err != nil {
			return 0, err
		}
	}
	chunk := i.typed
	// Survey takes the end of the input for a bare return, which would be a
	// yes that nobody said.
	if chunk[0] == endOfInput {
		i.typed = chunk[1:]
		return 0, io.EOF
	}
	if end := bytes.IndexByte(chunk, endOfInput); end > 0 {
		chunk = chunk[:end]
	}
	// Not beyond the line: what follows belongs to the next question.
	if end := bytes.IndexAny(chunk, "\r\n\x03"); end >= 0 {
		chunk = chunk[:end+1]
	}
	n := copy(p, chunk)
	i.typed = i.typed[n:]
	return n, nil
}

func (i *input) fill() error {
	var buf [1024]byte
	n, err := i.file.Read(buf[:])
	if n > 0 {
		i.typed = append(i.typed, buf[:n]...)
		return nil
	}
	return err
}

// asked takes over when survey has asked where the cursor is. what was printed
// since the last line began gives the column where the terminal does not.
func (i *input) asked(column int, corner bool) {
	if !i.mute {
		if i.listen() {
			return
		}
		i.mute = true
	}
	columns, rows := 80, 24
	if w, h, err := term.GetSize(int(i.file.Fd())); err == nil && w > 0 && h > 0 {
		columns, rows = w, h
	}
	row := 1
	if corner {
		row, column = rows, columns
	}
	i.answers = append(i.answers, "\x1b["+strconv.Itoa(row)+";"+strconv.Itoa(min(column, columns))+"R"...)
}

// listen reads until the terminal has answered and reports whether it did.
func (i *input) listen() bool {
	limit := patience
	if i.tried {
		limit = 10 * patience // it has answered before
	}
	end := time.Now().Add(limit)
	for {
		if from, to := report(i.typed); to > 0 {
			i.answers = append(i.answers, i.typed[from:to]...)
			i.typed = append(i.typed[:from:from], i.typed[to:]...)
			i.tried = true
			return true
		}
		left := time.Until(end)
		if left <= 0 || !i.ready(left) || i.fill() != nil {
			return false
		}
	}
}

func (i *input) ready(limit time.Duration) bool {
	for end := time.Now().Add(limit); ; {
		fds := []unix.PollFd{{Fd: int32(i.file.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, max(1, int(time.Until(end).Milliseconds())))
		if err == unix.EINTR && time.Now().Before(end) {
			continue
		}
		return err == nil && n > 0
	}
}

// report finds ESC [ row ; column R.
func report(b []byte) (from, to int) {
	for from = 0; ; from++ {
		at := bytes.Index(b[from:], []byte("\x1b["))
		if at < 0 {
			return 0, 0
		}
		from += at
		end := bytes.IndexByte(b[from:], 'R')
		if end < 0 {
			return 0, 0
		}
		row, column, ok := strings.Cut(string(b[from+2:from+end]), ";")
		if _, err := strconv.ParseUint(row, 10, 16); err != nil || !ok {
			continue
		}
		if _, err := strconv.ParseUint(column, 10, 16); err != nil {
			continue
		}
		return from, from + end + 1
	}
}

// output passes on what survey prints, except its question to a terminal that
// does not answer.
type output struct {
	file   *os.File
	in     *input
	line   []byte // what stands in the current line, for the column
	corner bool   // the cursor was sent to the far corner to measure the size
}

// Fd implements terminal.FileWriter.
func (o *output) Fd() uintptr { return o.file.Fd() }

// Write implements terminal.FileWriter.
func (o *output) Write(p []byte) (int, error) {
	if string(p) == whereIsCursor {
		if !o.in.mute {
			if _, err := o.file.Write(p); err != nil {
				return 0, err
			}
		}
		o.in.asked(o.column(), o.corner)
		o.corner = false
		return len(p), nil
	}
	switch s := string(p); {
	case s == "\x1b[999;999f":
		o.corner = true
	default:
		o.line = append(o.line, p...)
		if i := bytes.LastIndexAny(o.line, "\r\n"); i >= 0 {
			o.line = append(o.line[:0], o.line[i+1:]...)
		}
		if len(o.line) > 4096 {
			o.line = append(o.line[:0], o.line[len(o.line)-4096:]...)
		}
	}
	return o.file.Write(p)
}

// column counts what can be seen in the current line.
func (o *output) column() int {
	n := 1
	for b := o.line; len(b) > 0; {
		if b[0] == '\x1b' {
			end := bytes.IndexFunc(b[1:], func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '7' || r == '8' })
			if end < 0 {
				break
			}
			b = b[end+2:]
			continue
		}
		_, size := utf8.DecodeRune(b)
		b = b[size:]
		n++
	}
	return n
}
