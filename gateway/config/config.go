// Package config reads config.yaml, the one file in which a person says what
// the gateway may do, and writes the first one for the installer.
//
// It promises that every key of the file either has its full effect or is an
// error that names the line: an unknown or repeated key, a wrong type, a value
// out of its bounds and a function that this version does not have yet are all
// refused, and all of them at once, so that a file is corrected in one pass.
// Every entry knows its line ("config.yaml:31"), because that is what a verdict
// cites. A key that is absent has the strictest useful meaning: a channel is
// off, a list is empty, an empty list permits nobody.
//
// It refuses the parts of YAML that make a file mean something else than it
// seems to: anchors, aliases, merge keys, tags, several documents, tabs and
// characters that cannot be seen. Load refuses a file that anybody but root
// could have written.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// MaxSize is the largest configuration that is read, in bytes.
const MaxSize = 1 << 20

// Config is one configuration, read and checked.
type Config struct {
	Gateway     Gateway
	Clients     []string // names of the OS users that are served
	DeadLetters DeadLetters
	Audit       Audit
	Owner       map[string]policy.Peer // by channel; also in Policy
	QuietHours  *policy.QuietHours     // nil: none; also in Policy
	Channels    map[string]*Channel    // every channel that the file names, enabled or not
	Policy      *policy.Policy
	Raw         []byte // the bytes that were read; Policy.SHA256 is of these
	// Warnings are remarks on what is permitted but rarely meant, each
	// beginning with its place.
	Warnings []string
}

// Gateway is the section of the same name.
type Gateway struct {
	LogLevel       string        // debug, info, warn or error
	RequestTimeout time.Duration // how long one call may take
	MaxConnections int           // at once, of all clients together
	MaxMessage     int           // bytes of one line on the wire
}

// DeadLetters says what is kept of what was held or refused.
type DeadLetters struct {
	Retain      time.Duration
	Max         int  // how many
	KeepContent bool // false: who, when and why, but not the words
}

// Audit says how the log is written.
type Audit struct {
	Checkpoint int      // records between two signed checkpoints
	HashFields []string // fields that are written as keyed hashes: "peers"
}

// Channel is what the gateway must know to run a channel; what the channel may
// do is in Policy.Channels under the same name.
type Channel struct {
	Name     string
	Enabled  bool
	Tool     string // absolute path of the real tool; empty for loopback and discord
	Account  string // of signal (canonical phone number or ACI) and gmail (address); empty elsewhere
	Listen   string // discord: host and port of the façade, on loopback
	Upstream string // discord: the REST base that requests go to
	Where    string // "config.yaml:27"
}

// Error is one fault in a configuration.
type Error struct {
	File string // as it was given to Parse
	Line int    // from 1
	Text string // what, and what would be right
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text) }

// joined returns all faults in the order of their lines, nil if there are none.
func joined(faults []*Error) error {
	slices.SortStableFunc(faults, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}

// DefaultPath returns where the configuration stands on an operating system,
// by its Go name ("linux", "darwin") or the installer's ("macos").
func DefaultPath(goos string) string {
	switch goos {
	case "darwin", "macos":
		return "/Library/Application Support/Carapace/config.yaml"
	}
	return "/etc/carapace/config.yaml"
}
