package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Schema is the version of the receipt's shape. A receipt of another schema is
// refused, never guessed at.
const Schema = 1

// State is how far a step came.
type State string

// The states. Applying and Reverting are on disk before the first touch.
const (
	Planned   State = "planned"   // nothing was done
	Applying  State = "applying"  // it was begun; it may be half done
	Applied   State = "applied"   // it was done and verified
	Reverting State = "reverting" // its undoing was begun
	Reverted  State = "reverted"  // it was undone, or there was nothing to undo
	Kept      State = "kept"      // uninstall left it, handed to root; install takes it up again
)

func (s State) valid() bool {
	switch s {
	case Planned, Applying, Applied, Reverting, Reverted, Kept:
		return true
	}
	return false
}

// touched reports whether the object may have been changed by us, so that the
// recorded Change holds and not a new plan's.
func (s State) touched() bool {
	return s == Applying || s == Applied || s == Reverting || s == Kept
}

// Entry is one step in the receipt.
type Entry struct {
	Kind   string          `json:"kind"`
	Key    string          `json:"key"`
	Title  string          `json:"title"`
	Change Change          `json:"change"`
	State  State           `json:"state"`
	Data   json.RawMessage `json:"data"`             // the step's exported fields
	Memory json.RawMessage `json:"memory,omitempty"` // previous values, proofs of ownership
}

// Header is what a receipt says about the installation as a whole.
type Header struct {
	Version     string          `json:"version"` // of Carapace
	OS          string          `json:"os"`      // "linux", "macos"
	Prefix      string          `json:"prefix"`
	ServiceUser string          `json:"service_user"`
	ClientGroup string          `json:"client_group"`
	Clients     []string        `json:"clients"`
	Settings    json.RawMessage `json:"settings,omitempty"` // the installer's own; opaque here
}

// Receipt is what was done to a machine, in order. It is written before and
// after each step, root's alone (0600).
type Receipt struct {
	Schema int `json:"schema"`
	Header
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	Steps   []Entry   `json:"steps"`
}

// find returns the entry of a step, or nil.
func (r *Receipt) find(kind, key string) *Entry {
	for i := range r.Steps {
		if r.Steps[i].Kind == kind && r.Steps[i].Key == key {
			return &r.Steps[i]
		}
	}
	return nil
}

// Unfinished returns the titles of the steps that were begun and not ended.
func (r *Receipt) Unfinished() []string {
	var titles []string
	for _, e := range r.Steps {
		switch e.State {
		case Planned, Applying, Reverting:
			titles = append(titles, e.Title)
		}
	}
	return titles
}

// Installed reports whether anything but what was deliberately kept stands.
func (r *Receipt) Installed() bool {
	for _, e := range r.Steps {
		if e.State == Applying || e.State == Applied || e.State == Reverting {
			return true
		}
	}
	return false
}

// MarshalReceipt returns the receipt as it stands on disk.
func MarshalReceipt(r *Receipt) ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the receipt: %w", err)
	}
	return append(data, '\n'), nil
}

// ParseReceipt reads a receipt. It refuses another schema, unknown members,
// unknown states and changes, and two entries for one object, with an error
// that wraps ErrReceipt.
func ParseReceipt(data []byte) (*Receipt, error) {
	var probe struct {
		Schema  int    `json:"schema"`
		Version string `json:"version"`
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if probe.Schema != Schema {
		return nil, WithHint(fmt.Errorf("%w: schema %d, this program reads %d", ErrReceipt, probe.Schema, Schema),
			fmt.Sprintf("use the carapace-setup that wrote it (version %q)", probe.Version))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var r Receipt
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: data after its end", ErrReceipt)
	}
	seen := make(map[[2]string]bool)
	for i, e := range r.Steps {
		switch {
		case e.Kind == "" || e.Key == "":
			return nil, fmt.Errorf("%w: step %d has no kind or no key", ErrReceipt, i+1)
		case !e.State.valid():
			return nil, fmt.Errorf("%w: step %d (%s) has the state %q", ErrReceipt, i+1, e.Title, e.State)
		case e.Change != None && e.Change != Make && e.Change != Adopt && e.Change != Alter:
			return nil, fmt.Errorf("%w: step %d (%s) has the change %q", ErrReceipt, i+1, e.Title, e.Change)
		case seen[[2]string{e.Kind, e.Key}]:
			return nil, fmt.Errorf("%w: step %d (%s) stands there twice", ErrReceipt, i+1, e.Title)
		}
		seen[[2]string{e.Kind, e.Key}] = true
	}
	return &r, nil
}
