package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Request is one request of a client, read but not believed.
type Request struct {
	ID     json.RawMessage // a string or an integer, as the client wrote it
	Method string
	Params json.RawMessage // an object, or nil; read it with Decode
}

// parseRequest reads one line without its newline. The *Request is never nil:
// on an error it holds the id if there is one to answer to, for the rest see
// the package documentation.
func parseRequest(line []byte) (*Request, *Error) {
	r := new(Request)
	text := bytes.TrimSpace(line)
	if len(text) == 0 {
		return r, refusal(CodeParse, "an empty line")
	}
	var version, id, method, params, foreign []byte
	var stranger string
	err := scan(text, nil, func(key string, raw []byte) {
		switch key {
		case "jsonrpc":
			version = raw
		case "id":
			id = raw
		case "method":
			method = raw
		case "params":
			params = raw
		default:
			stranger, foreign = key, raw
		}
	})
	switch {
	case err == nil:
	case isSyntax(err):
		return r, refusal(CodeParse, "%s", err)
	default:
		return r, refusal(CodeInvalidRequest, "%s", err)
	}
	if text[0] == '[' {
		return r, refusal(CodeInvalidRequest, "batches are not served")
	}
	if text[0] != '{' {
		return r, refusal(CodeInvalidRequest, "a request is an object")
	}
	if id != nil {
		if !validID(id) {
			return r, refusal(CodeInvalidRequest, "id must be a string or an integer of at most %d bytes", maxID)
		}
		r.ID = json.RawMessage(bytes.Clone(id))
	}
	if foreign != nil {
		return r, refusal(CodeInvalidRequest, "member %s is unknown", shown(stranger))
	}
	if string(version) != `"2.0"` {
		return r, refusal(CodeInvalidRequest, `jsonrpc must be "2.0"`)
	}
	if len(method) == 0 || method[0] != '"' {
		return r, refusal(CodeInvalidRequest, "method must be a string")
	}
	name := unquote(method)
	if name == "" || len(name) > maxMethod {
		return r, refusal(CodeInvalidRequest, "method must have between 1 and %d bytes", maxMethod)
	}
	r.Method = name
	if params != nil {
		if params[0] != '{' {
			return r, refusal(CodeInvalidParams, "params must be an object")
		}
		r.Params = json.RawMessage(bytes.Clone(params))
	}
	return r, nil
}

// validID reports whether raw is an id of interface §5. It is valid JSON
// already, and no array or object can look like a string or an integer.
func validID(raw []byte) bool {
	if len(raw) > maxID {
		return false
	}
	if raw[0] == '"' {
		return true
	}
	for i, c := range raw {
		if (c < '0' || c > '9') && (i > 0 || c != '-') {
			return false
		}
	}
	return true
}

const version = "2.0"

type resultLine struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result"`
}

type errorLine struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"` // nil is written as null
	Error   *Error          `json:"error"`
}

type notifyLine struct {
	Version string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`
}

var errTooLong = errors.New("the message is longer than a line may be")

// appendLine writes v as one line into buf, which it empties first.
func appendLine(buf *bytes.Buffer, v any, limit int) error {
	buf.Reset()
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if buf.Len()-1 > limit {
		return errTooLong
	}
	return nil
}

// appendRequest appends one request with its newline to dst. Only params that
// are not JSON already cost a use of encoding/json.
func appendRequest(dst []byte, id int64, method string, params any) ([]byte, error) {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = strconv.AppendInt(dst, id, 10)
	dst = append(dst, `,"method":`...)
	dst = AppendText(dst, method)
	if params != nil {
		raw, ok := params.(json.RawMessage)
		if !ok || bytes.IndexByte(raw, '\n') >= 0 {
			var err error
			if raw, err = json.Marshal(params); err != nil {
				return nil, fmt.Errorf("encode a request: %w", err)
			}
		}
		dst = append(dst, `,"params":`...)
		dst = append(dst, raw...)
	}
	return append(dst, '}', '\n'), nil
}

// answer is what a client reads: an answer or a notification.
type answer struct {
	id      []byte // nil or null: of no request
	method  string // of a notification
	params  []byte
	result  []byte
	problem *Error
}

// parseAnswer reads one line of the server's. What it returns stands in line.
// Members that this version does not know are left out.
func parseAnswer(line []byte) (answer, error) {
	var a answer
	err := Members(bytes.TrimSpace(line), func(key string, raw []byte) {
		switch key {
		case "id":
			a.id = raw
		case "method":
			a.method, _ = Text(raw)
		case "params":
			a.params = raw
		case "result":
			a.result = raw
		case "error":
			a.problem = parseProblem(raw)
		}
	})
	return a, err
}

func parseProblem(raw []byte) *Error {
	e := new(Error)
	Members(raw, func(key string, raw []byte) {
		switch key {
		case "code":
			n, _ := integer(raw)
			e.Code = int(n)
		case "message":
			e.Message, _ = Text(raw)
		case "data":
			d := new(ErrorData)
			Members(raw, func(key string, raw []byte) {
				switch key {
				case "id":
					d.ID, _ = Text(raw)
				case "hint":
					d.Hint, _ = Text(raw)
				case "retry_after_ms":
					d.RetryAfterMS, _ = integer(raw)
				case "not_started":
					d.NotStarted = string(raw) == "true"
				}
			})
			e.Data = d
		}
	})
	return e
}
