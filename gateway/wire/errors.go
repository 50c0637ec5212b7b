package wire

import (
	"errors"
	"fmt"
)

// Error codes of the wire (interface §5): those of JSON-RPC 2.0, then ours.
const (
	CodeParse          = -32700 // not JSON
	CodeInvalidRequest = -32600 // JSON, but no request
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
	CodeDenied         = -32001 // the peer is not in the allowlist
	CodeRate           = -32002 // too often; Data.RetryAfterMS says when again
	CodeContent        = -32003 // the content is blocked
	CodeUnavailable    = -32004 // the channel, or the gateway, cannot serve now
	CodeTool           = -32005 // the tool failed
	CodeHeld           = -32006 // waits for a person; Data.ID names the dead letter
	CodeCommand        = -32007 // the command is not permitted
	CodeLocked         = -32008 // a person has locked the gateway
)

// Exit codes of every program of ours (interface §1).
const (
	ExitOK           = 0
	ExitFailed       = 1
	ExitUnverified   = 2  // a critical check is unknown
	ExitPartial      = 3  // partly done; what remains is named
	ExitUsage        = 64 // the command line is wrong
	ExitUnavailable  = 69 // the gateway cannot be reached
	ExitBug          = 70 // a fault of Carapace itself
	ExitConflict     = 73 // found before anything was changed
	ExitTryLater     = 75 // rate limit, or another run holds the lock
	ExitNotPermitted = 77 // denied, held, content, locked, may not connect, root is needed
)

// Error is what a request is answered with when it did not succeed. A handler
// returns one to say exactly what the client is told. Message is a reason for
// a person; it holds no pattern, list, path or stack of the gateway's.
type Error struct {
	Code    int        `json:"code"`
	Message string     `json:"message"`
	Data    *ErrorData `json:"data,omitempty"`
}

// ErrorData is what can be said beyond the reason.
type ErrorData struct {
	ID           string `json:"id,omitempty"`             // the dead letter
	Hint         string `json:"hint,omitempty"`           // what a person can do about it
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"` // CodeRate only: milliseconds
	NotStarted   bool   `json:"not_started,omitempty"`    // it is certain that nothing happened
}

// Error returns the reason with its code.
func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// Exit returns the exit code with which a one-shot program ends when this is
// what it was answered.
func (e *Error) Exit() int {
	switch e.Code {
	case CodeDenied, CodeContent, CodeHeld, CodeCommand, CodeLocked:
		return ExitNotPermitted
	case CodeRate:
		return ExitTryLater
	case CodeUnavailable:
		return ExitUnavailable
	case CodeInvalidParams:
		return ExitUsage
	case CodeParse, CodeInvalidRequest, CodeMethodNotFound, CodeInternal:
		return ExitBug
	}
	return ExitFailed
}

// Hint returns Data.Hint, or nothing.
func (e *Error) Hint() string {
	if e.Data == nil {
		return ""
	}
	return e.Data.Hint
}

// ExitCode returns the exit code for the outcome of a call: 0 for nil, that of
// an *Error or *UnreachableError anywhere in the chain, and 1 for the rest.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Exit()
	}
	if u, ok := errors.AsType[*UnreachableError](err); ok {
		return u.Exit()
	}
	return ExitFailed
}

func refusal(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) withHint(hint string) *Error {
	e.Data = &ErrorData{Hint: hint, NotStarted: true}
	return e
}
