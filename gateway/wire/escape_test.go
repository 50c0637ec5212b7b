package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"plain text, é, 漢字, 😀 ❤️": "plain text, é, 漢字, 😀 ❤️",
		`back\slash "quoted"`:     `back\slash "quoted"`,
		"a\nb\r\nc\td":            `a\nb\r\nc\td`,
		"\x1b[2Jgone\x07":         `\x1b[2Jgone\x07`,
		"\x00\x7f":                `\x00\x7f`,
		"\u0085\u009b31m":         `\u0085\u009b31m`,
		"\u202egnp.exe":           `\u202egnp.exe`,
		"\u2066a\u2069":           `\u2066a\u2069`,
		"a\u200bb\u200dc\ufeff":   `a\u200bb\u200dc\ufeff`,
		"a\u2028b\u2029c":         `a\u2028b\u2029c`,
		"\xff\xc0\xaf":            `\xff\xc0\xaf`,
		"\xed\xa0\x80":            `\xed\xa0\x80`,
		"\ufffd":                  "\ufffd",
		"\u00adsoft":              `\u00adsoft`,
		"\U000e0041tag":           `\U000e0041tag`,
		"\u3164filler":            `\u3164filler`,
		"\ufe01\U000e0101":        `\ufe01\U000e0101`,
		"\ue000":                  `\ue000`,
		"a\u00a0b\u3000c":         "a\u00a0b\u3000c",
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func checkEscaped(t interface{ Fatalf(string, ...any) }, in string) {
	out := Escape(in)
	if !utf8.ValidString(out) {
		t.Fatalf("Escape(%q) = %q is not UTF-8", in, out)
	}
	if again := Escape(out); again != out {
		t.Fatalf("Escape(%q) = %q, and again %q", in, out, again)
	}
	for _, r := range out {
		if r < ' ' || r == 0x7f || strings.ContainsRune("\u0085\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff", r) {
			t.Fatalf("Escape(%q) = %q lets %U through", in, out, r)
		}
	}
}

func TestEscapeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkEscaped(t, rapid.String().Draw(t, "text"))
		checkEscaped(t, string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")))
	})
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a\nb", "\x1b[0m", "\u202e", "\xff", "\xed\xa0\x80", `\x1b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkEscaped(t, s) })
}

func TestEscapeClean(t *testing.T) {
	s := strings.Repeat("nothing to do ", 100)
	if n := testing.AllocsPerRun(100, func() { Escape(s) }); n != 0 {
		t.Errorf("clean text costs %v allocations", n)
	}
}

// Escaped JSON means the same and holds nothing that cannot be seen.
func TestEscapeJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"plain é 😀"}`:              `{"a":"plain é 😀"}`,
		"{\n\t\"a\": 1\r\n}":             "{\n\t\"a\": 1\r\n}",
		"\"\u202e\u009b\U000e0041\x7f\"": `"\u202e\u009b\udb40\udc41\u007f"`,
		"\"\xff\"":                       "\"\ufffd\"",
	} {
		if got := string(EscapeJSON([]byte(in))); got != want {
			t.Errorf("EscapeJSON(%q) = %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "s")
		raw, _ := json.Marshal(want)
		var got string
		if err := json.Unmarshal(EscapeJSON(raw), &got); err != nil || got != want {
			t.Fatalf("%q became %q: %v", want, got, err)
		}
	})
}
