package channel

// The wire error codes of interface §5 that a Refusal may carry. They are
// repeated here because channels do not import the wire.
const (
	CodeInvalidParams = -32602 // JSON-RPC's own
	CodeInternal      = -32603
	CodeDenied        = -32001 // not in the allowlist
	CodeRate          = -32002 // with RetryAfter
	CodeContent       = -32003
	CodeUnavailable   = -32004 // the gateway or the tool is away
	CodeToolFailed    = -32005
	CodeHeld          = -32006 // with ID
	CodeNotPermitted  = -32007 // a command, flag, method or parameter
	CodeLocked        = -32008
)

// The exit codes of interface §1 that a one-shot call can end with.
const (
	ExitOK           = 0
	ExitFailed       = 1
	ExitUsage        = 64
	ExitUnavailable  = 69
	ExitBug          = 70
	ExitRate         = 75
	ExitNotPermitted = 77
)

// ExitFor returns the exit code of a one-shot call that ended with a wire
// error. A code it does not know is not permitted: closed when in doubt.
func ExitFor(code int) int {
	switch code {
	case CodeRate:
		return ExitRate
	case CodeUnavailable:
		return ExitUnavailable
	case CodeToolFailed:
		return ExitFailed
	case CodeInvalidParams:
		return ExitUsage
	case CodeInternal:
		return ExitBug
	}
	return ExitNotPermitted
}
