package probe

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

// Class is how a check ended.
type Class string

// The classes (interface §3). Unknown is never shown as a pass.
const (
	Pass    Class = "pass"
	Fail    Class = "fail"
	Warn    Class = "warn"    // true, and worth knowing, but not a hole in the isolation
	Unknown Class = "unknown" // it could not be tried, or the answer proves nothing
)

// Severity is what a failure of a check would mean.
type Severity string

// The severities (interface §3).
const (
	Critical Severity = "critical" // there is no isolation without it
	High     Severity = "high"     // one more fault, and there is none
	Medium   Severity = "medium"
	Info     Severity = "info"
)

// Who can run a check (interface §3).
const (
	NeedsSelf = "self"
	NeedsRoot = "root"
)

// Check is one question and its answer.
type Check struct {
	ID       string   `json:"id"` // "file.state"; fixed once published, scripts read it
	Title    string   `json:"title"`
	Class    Class    `json:"class"`
	Severity Severity `json:"severity"`
	Needs    string   `json:"needs"`    // NeedsSelf or NeedsRoot
	Evidence string   `json:"evidence"` // what was seen; safe to print
	Remedy   string   `json:"remedy"`   // what a person can do; empty for a pass
}

// Report is what a run of Verify found, in the order in which it was tried.
type Report struct {
	OK     bool    `json:"ok"` // Exit() == 0
	OS     string  `json:"os"` // "linux" or "macos"
	Client string  `json:"client"`
	Checks []Check `json:"checks"`
}

// Exit returns the exit code of verify (interface §3): 1 if a check failed,
// else 2 if a critical one is unknown, else 0. A report without checks proves
// nothing: 2.
func (r Report) Exit() int {
	code := wire.ExitOK
	if len(r.Checks) == 0 {
		return wire.ExitUnverified
	}
	for _, c := range r.Checks {
		switch {
		case c.Class == Fail:
			return wire.ExitFailed
		case c.Class != Pass && c.Class != Warn && c.Severity == Critical:
			code = wire.ExitUnverified
		}
	}
	return code
}

// Write prints the report for a person: a line a check, and below each one
// that is not a pass what was seen and what can be done. colour adds terminal
// colours and nothing else; whether there is a terminal is the caller's to
// know.
func (r Report) Write(w io.Writer, colour bool) error {
	var b strings.Builder
	width := 0
	for _, c := range r.Checks {
		width = max(width, utf8.RuneCountInString(c.ID))
	}
	count := map[Class]int{}
	for _, c := range r.Checks {
		count[c.Class]++
		fmt.Fprintf(&b, "%s  %-8s  %-*s  %s\n", mark(c.Class, colour), wire.Escape(string(c.Severity)), width,
			wire.Escape(c.ID), wire.Escape(c.Title))
		if c.Class == Pass {
			continue
		}
		for _, line := range []struct{ what, text string }{{"seen", c.Evidence}, {"cure", c.Remedy}} {
			if line.text != "" {
				fmt.Fprintf(&b, "%19s %s: %s\n", "", line.what, wire.Escape(line.text))
			}
		}
	}
	fmt.Fprintf(&b, "\n%d passed, %d failed, %d warnings, %d unknown", count[Pass], count[Fail], count[Warn], count[Unknown])
	switch r.Exit() {
	case wire.ExitOK:
		fmt.Fprintf(&b, ": %s is kept apart\n", wire.Escape(r.Client))
	case wire.ExitFailed:
		fmt.Fprintf(&b, ": the isolation from %s is NOT real\n", wire.Escape(r.Client))
	default:
		fmt.Fprintf(&b, ": could not be verified for %s\n", wire.Escape(r.Client))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func mark(c Class, colour bool) string {
	word, code := "UNKNOWN", "33"
	switch c {
	case Pass:
		word, code = "pass   ", "32"
	case Fail:
		word, code = "FAIL   ", "1;31"
	case Warn:
		word, code = "warn   ", "33"
	}
	if colour {
		return "\x1b[" + code + "m" + word + "\x1b[0m"
	}
	return word
}

// maxSaid bounds what is shown of what other programs said.
const maxSaid = 240

// said makes foreign text fit for evidence: one line, nothing invisible,
// bounded.
func said(s string) string {
	s = wire.Escape(strings.Join(strings.Fields(s), " "))
	if len(s) > maxSaid {
		s = strings.ToValidUTF8(s[:maxSaid], "") + "…"
	}
	return s
}
