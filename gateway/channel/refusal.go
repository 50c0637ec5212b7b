package channel

import (
	"fmt"
	"strings"
)

// Lines writes a refusal as every channel prints it (interface §9): what
// happened in one line, what a person can do about it in a second one, or
// nothing there. Both begin with the name of the program that the user called
// and end with a line end.
func (r *Refusal) Lines(name string) (what, hint string) {
	reason := Escape(r.Reason)
	switch {
	case r.Code == CodeHeld && r.ID != "":
		what = fmt.Sprintf("%s: held for review (%s): %s\n", name, Escape(r.ID), reason)
	case r.Code == CodeUnavailable:
		what = fmt.Sprintf("%s: unavailable: %s\n", name, reason)
	default:
		what = fmt.Sprintf("%s: refused: %s\n", name, reason)
	}
	switch {
	case r.Hint != "":
		hint = fmt.Sprintf("%s: hint: %s\n", name, Escape(r.Hint))
	case r.Code == CodeRate && r.RetryAfter > 0:
		hint = fmt.Sprintf("%s: hint: try again in %.1f s\n", name, float64(r.RetryAfter+99)/1000)
	}
	return what, hint
}

// Scrub takes from a tool's own words what a client may not learn: the rest of
// a text of several lines, and words that hold a path, an address or a number
// long enough to dial. What remains is at most 200 characters and safe to
// print.
func Scrub(text string) string {
	const most = 200
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	words := strings.Fields(first)
	for i, w := range words {
		digits := 0
		for _, r := range w {
			if '0' <= r && r <= '9' {
				digits++
			}
		}
		switch {
		case strings.ContainsAny(w, `/\~`):
			words[i] = "[path]"
		case strings.Contains(w, "@") || digits >= 7:
			words[i] = "[peer]"
		}
	}
	clean := []rune(Escape(strings.Join(words, " ")))
	if len(clean) > most {
		clean = append(clean[:most], '…')
	}
	if len(clean) == 0 {
		return "the tool failed"
	}
	return string(clean)
}
