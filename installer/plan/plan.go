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
//
// # How a run goes
//
// [Engine.Draft] plans every step against the machine and against the receipt
// and changes nothing; [Engine.Apply] carries the draft out, one step after
// the other, on purpose sequentially: half of these steps need the one before
// them, and a person reads along. [Engine.Revert] goes backwards.
//
// # Who decides what a step is to uninstall
//
// The Change of the run that first touched the object. It is written down
// before the touch, so after a kill an object that we made half of is still
// Make and not Adopt. Only a step that was never begun, or whose object was
// merely found, is planned anew.
package plan

import (
	"context"
	"encoding/json"
)

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
	Kind() string // receipt tag; never renamed
	// Key says what the step is about: a path, a name. Kind and Key together
	// find the step again in the receipt of an earlier run, so a kind's way
	// to make its key is never changed either.
	Key() string
	Title() string // "create group carapace-clients"
	// Plan reads only. An error is a conflict, with its cure as a hint. What
	// the step's memory proves to be ours is never a conflict.
	Plan(context.Context) (Change, error)
	Apply(context.Context) error  // idempotent
	Revert(context.Context) error // idempotent; leaves what it only adopted; restores what it altered
	Verify(context.Context) error // reads only; nil: what Apply promised holds
}

// Rememberer is a step that learns things on the way that must outlive the
// process: the previous value of what it alters, the proof that an object is
// its own. They are kept in the receipt beside the step's data.
type Rememberer interface {
	Step
	Memory() any // marshalled with encoding/json
	Recall(json.RawMessage) error
}

// Preparer is a step that must settle something before its first mutation and
// have it on disk by then, such as the id of an account to be made. Prepare
// reads only; it is called before every Apply and before an adoption.
type Preparer interface {
	Step
	Prepare(context.Context) error
}

// Keeper is a step whose object may outlive an uninstall that does not purge.
type Keeper interface {
	Step
	// Keep makes the object safe to leave behind and reports where it is; an
	// empty name says that there is nothing to keep and Revert is to be
	// called. It is idempotent.
	Keep(context.Context) (string, error)
}

// Blocker is a step that knows a reason why nothing may be reverted now.
// Blocked reads only; its error is a conflict.
type Blocker interface {
	Step
	Blocked(context.Context) error
}

// Describer is a step that can say more than its title.
type Describer interface {
	Step
	Detail() string // what exactly, in one line: "root 0755, 4 programs"
	Why() string    // the reason, in one sentence, for --explain
}

// Detail returns the step's one line of detail, or nothing.
func Detail(s Step) string {
	if d, ok := s.(Describer); ok {
		return d.Detail()
	}
	return ""
}

// Why returns the step's reason, or nothing.
func Why(s Step) string {
	if d, ok := s.(Describer); ok {
		return d.Why()
	}
	return ""
}
