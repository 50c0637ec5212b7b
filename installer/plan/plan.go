// Package plan is the engine of the installer: steps, what they would change,
// the receipt that says what they did, and the ways to run, resume and revert
// them. It knows no operating system and no command.
//
// It promises that the state of a step is on disk before the step touches
// anything and again after it has been verified, so that a kill at any moment
// leaves a receipt from which install, repair and uninstall all reach the
// state of an undisturbed run. It promises that no step is applied before
// every step has been planned and none has a conflict.
//
// It refuses to revert what was only found (Adopt), and to overwrite a value
// that was changed by somebody else since (Alter).
package plan

import "context"

// Change is what a step would do.
type Change string

// The changes (interface §3: plan --json).
const (
	None  Change = "none"  // what the step promises already holds, and it is ours
	Make  Change = "make"  // it is not there: it will be made, and removed at uninstall
	Adopt Change = "adopt" // it is there and not ours: it will be used, and left at uninstall
	Alter Change = "alter" // it is there and differs: it will be changed, and restored at uninstall
)

// Step is one unit of reversal. Its exported fields are its data: they go into
// the receipt and come back from it years later, so a kind's fields are never
// renamed. A step holds no state of its own about how far it came: the receipt
// does.
type Step interface {
	Kind() string  // receipt tag; never renamed
	Title() string // "create group carapace-clients"
	// Plan reads only. An error is a conflict, with its cure as a hint.
	Plan(context.Context) (Change, error)
	Apply(context.Context) error  // idempotent
	Revert(context.Context) error // idempotent; leaves what it only adopted; restores what it altered
	Verify(context.Context) error // reads only; nil: what Apply promised holds
}
