package channel

import (
	"strings"
	"testing"
)

// TestScrubBrokenWords: what of the tool's words must not reach a client does not, however
// it is broken into words.
func TestScrubBrokenWords(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"Chat not found: 42", "Chat not found: 42"},
		{"AppleScript failed: Attachment not found at /Users/carapace/Library/Application Support/My Files/x.png", "AppleScript failed: Attachment not found at [path]"},
		{"no such person: +1 415 555 1212 (in the address book)", "no such person: [peer] (in the address book)"},
		{"no such person: (415) 555-1212.", "no such person: [peer]"},
		{"no such person: +1 (415) 555 - 1212 or boss@corp.example", "no such person: [peer] or [peer]"},
		{"no such person: ٠١٢٣٤٥٦٧", "no such person: [peer]"},
		{"error 12 at line 34 of 56", "error 12 at line 34 of 56"},
		{"first\nJane: +15550001111", "first"},
		{"", "the tool failed"},
	} {
		if got := Scrub(c.text); got != c.want {
			t.Errorf("Scrub(%q) = %q, want %q", c.text, got, c.want)
		}
	}
	if got := Scrub(strings.Repeat("long ", 100)); len([]rune(got)) > 201 {
		t.Errorf("%d characters", len([]rune(got)))
	}
}
