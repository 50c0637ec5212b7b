package plan

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that a caller tells apart, each with an exit code of interface §1.
var (
	// ErrBusy says that another run holds the lock (75).
	ErrBusy = errors.New("another run of carapace-setup holds the lock")
	// ErrStopped says that a person stopped the run between two steps (1).
	ErrStopped = errors.New("stopped between two steps")
	// ErrReceipt says that the receipt cannot be understood; nothing was
	// touched (73).
	ErrReceipt = errors.New("the receipt cannot be used")
	// ErrAgain is what a step's Apply returns when what its Prepare settled no
	// longer holds (an id was taken): nothing was changed, and both are called
	// again.
	ErrAgain = errors.New("to be prepared again")
)

// HintError is an error with what a person can do about it.
type HintError struct {
	Err   error
	Hints []string
}

func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns the error without its hints.
func (e *HintError) Unwrap() error { return e.Err }

// WithHint returns err with hints for the person in front of it.
func WithHint(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &HintError{Err: err, Hints: hints}
}

// Hints collects the hints of err, outermost first, each once.
func Hints(err error) []string {
	var hints []string
	seen := make(map[string]bool)
	var walk func(error)
	walk = func(err error) {
		if err == nil {
			return
		}
		if h, ok := err.(*HintError); ok {
			for _, s := range h.Hints {
				if !seen[s] {
					seen[s] = true
					hints = append(hints, s)
				}
			}
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			walk(u.Unwrap())
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e)
			}
		}
	}
	walk(err)
	return hints
}

// Trouble is one step and what is wrong with it.
type Trouble struct {
	Title string
	Err   error
}

// ConflictError is everything that was found in the way before anything was
// changed (73).
type ConflictError struct{ Conflicts []Trouble }

func (e *ConflictError) Error() string {
	return "nothing was changed; in the way: " + list(e.Conflicts)
}

// Unwrap returns the single errors.
func (e *ConflictError) Unwrap() []error { return errs(e.Conflicts) }

// StepError is the failure of one step in the middle of a run. The receipt
// holds how far it came.
type StepError struct {
	Title string
	Err   error
}

func (e *StepError) Error() string { return e.Title + ": " + e.Err.Error() }

// Unwrap returns what the step said.
func (e *StepError) Unwrap() error { return e.Err }

// PartialError is what an uninstall could not undo; the receipt still holds
// it (3).
type PartialError struct{ Left []Trouble }

func (e *PartialError) Error() string { return "not undone: " + list(e.Left) }

// Unwrap returns the single errors.
func (e *PartialError) Unwrap() []error { return errs(e.Left) }

func list(ts []Trouble) string {
	var b strings.Builder
	for i, t := range ts {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %v", t.Title, t.Err)
	}
	return b.String()
}

func errs(ts []Trouble) []error {
	es := make([]error, len(ts))
	for i, t := range ts {
		es[i] = t.Err
	}
	return es
}
