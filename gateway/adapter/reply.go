package adapter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

// kind is what one line of a resident child is.
type kind uint8

const (
	kindBlank  kind = iota // nothing
	kindNotice             // a notification: a method, and no id
	kindStray              // an error for no request in particular: its id is null
	kindReply              // a result or an error, with an id
)

// line is one line of a resident child, read.
type line struct {
	kind   kind
	id     int64
	result json.RawMessage // kindReply: nil when fault is set
	fault  *fault
}

// fault is the error member of a reply.
type fault struct {
	code    int
	message string
	data    string // only when it was a string
}

var errGarbage = errors.New("it printed something that is no reply")

// parseLine reads one line of JSON-RPC 2.0. Keys are matched to the letter,
// which encoding/json does not do for struct fields.
func parseLine(b []byte) (line, error) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return line{}, nil
	}
	var m map[string]json.RawMessage
	if b[0] != '{' || json.Unmarshal(b, &m) != nil {
		return line{}, errGarbage
	}
	if v, ok := m["jsonrpc"]; ok && string(v) != `"2.0"` {
		return line{}, errGarbage
	}
	id, hasID := m["id"]
	if method, ok := m["method"]; ok {
		// A request of the tool's to us has no meaning, so an id makes it one
		// that we cannot have asked for.
		var name string
		if hasID || json.Unmarshal(method, &name) != nil {
			return line{}, errGarbage
		}
		return line{kind: kindNotice}, nil
	}
	result, hasResult := m["result"]
	failure, hasFault := m["error"]
	if !hasID || hasResult == hasFault {
		return line{}, errGarbage
	}
	l := line{kind: kindReply, result: result}
	if hasFault {
		f, err := parseFault(failure)
		if err != nil {
			return line{}, err
		}
		l.fault = f
	}
	if string(id) == "null" {
		if !hasFault {
			return line{}, errGarbage
		}
		l.kind = kindStray
		return l, nil
	}
	n, err := strconv.ParseInt(string(id), 10, 64)
	if err != nil {
		return line{}, errGarbage
	}
	l.id = n
	return l, nil
}

func parseFault(b json.RawMessage) (*fault, error) {
	var m map[string]json.RawMessage
	f := new(fault)
	if json.Unmarshal(b, &m) != nil || json.Unmarshal(m["code"], &f.code) != nil || json.Unmarshal(m["message"], &f.message) != nil {
		return nil, errGarbage
	}
	if d, ok := m["data"]; ok && len(d) > 0 && d[0] == '"' {
		if json.Unmarshal(d, &f.data) != nil {
			return nil, errGarbage
		}
	}
	return f, nil
}

// toolError is the fault in words that a client may see: without what lies
// below the given folders.
func (f *fault) toolError(folders ...string) *channel.ToolError {
	text := f.message
	if f.data != "" {
		text += ": " + f.data
	}
	for _, d := range folders {
		text = hideBelow(text, d)
	}
	return &channel.ToolError{Code: f.code, Text: clean(text, maxToolText)}
}

var errTooLong = errors.New("a line is too long")

// lines reads a stream line by line and never holds more than max bytes of
// one.
type lines struct {
	r   *bufio.Reader
	max int64
	buf []byte
}

func newLines(r io.Reader, max int64) *lines {
	return &lines{r: bufio.NewReaderSize(r, 64<<10), max: max}
}

// next returns the next line without its end, valid until the next call. At
// the end of the stream, what has no line end is not a line: it may be the half
// of one.
func (l *lines) next() ([]byte, error) {
	const keep = 1 << 20 // one long answer must not be held for ever
	if cap(l.buf) > keep {
		l.buf = nil
	}
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if int64(len(l.buf))+int64(len(part)) > l.max {
			return nil, errTooLong
		}
		if err == nil && len(l.buf) == 0 {
			return part[:len(part)-1], nil
		}
		l.buf = append(l.buf, part...)
		if err == nil {
			return l.buf[:len(l.buf)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// request writes one request line.
func request(id int64, q *channel.Request) ([]byte, error) {
	if q.Method == "" || bytes.ContainsFunc([]byte(q.Method), unicode.IsControl) {
		return nil, errors.New("a request without a method")
	}
	b, err := json.Marshal(struct {
		Version string `json:"jsonrpc"`
		ID      int64  `json:"id"`
		Method  string `json:"method"`
		Params  any    `json:"params,omitempty"`
	}{"2.0", id, q.Method, q.Params})
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}
