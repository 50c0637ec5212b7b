package channel

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
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
// a text of several lines, words that hold an address or a number long enough
// to dial, whether or not it is broken into groups, and whatever stands from
// the first word of a path to the last: the names of folders have spaces in
// them. What remains is at most 200 characters and safe to print.
func Scrub(text string) string {
	const most = 200
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	words := strings.Fields(first)
	isPath := func(w string) bool { return strings.ContainsAny(w, `/\~`) }
	if from := slices.IndexFunc(words, isPath); from >= 0 {
		to := from
		for i := from; i < len(words); i++ {
			if isPath(words[i]) {
				to = i
			}
		}
		words = slices.Replace(words, from, to+1, "[path]")
	}
	var kept []string
	for i := 0; i < len(words); i++ {
		if strings.Contains(words[i], "@") || digits(words[i]) >= dialable {
			kept = append(kept, "[peer]")
			continue
		}
		end, n := i, 0
		for end < len(words) && isNumber(words[end]) {
			n += digits(words[end])
			end++
		}
		if n >= dialable {
			kept = append(kept, "[peer]")
			i = end - 1
			continue
		}
		kept = append(kept, words[i])
	}
	clean := []rune(Escape(strings.Join(kept, " ")))
	if len(clean) > most {
		clean = append(clean[:most], '…')
	}
	if len(clean) == 0 {
		return "the tool failed"
	}
	return string(clean)
}

// dialable is how many digits can be somebody's number.
const dialable = 7

func digits(w string) (n int) {
	for _, r := range w {
		if unicode.IsDigit(r) {
			n++
		}
	}
	return n
}

// isNumber reports whether a word can be one group of a telephone number.
func isNumber(w string) bool {
	return strings.Trim(strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return '0'
		}
		return r
	}, w), "0+-().,") == ""
}
