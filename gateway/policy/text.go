package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// foul names what a rune is when it must not occur in anything that is
// compared or shown: it cannot be seen, changes the order of what is seen, or
// is a digit that is not one of ours. Empty means it may occur.
func foul(r rune) string {
	switch {
	case r < utf8.RuneSelf && r >= ' ' && r != 0x7f:
		return ""
	case unicode.Is(unicode.Cc, r):
		return "control character"
	case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Variation_Selector, r), invisible(r):
		return "character that cannot be seen"
	case unicode.IsSpace(r), unicode.In(r, unicode.Z):
		return "space that is not the ordinary one"
	case unicode.In(r, unicode.N):
		return "digit that is not 0 to 9"
	case unicode.In(r, unicode.Co, unicode.Cs), r == utf8.RuneError:
		return "character without a meaning"
	}
	return ""
}

// invisible lists letters that Unicode calls letters or marks but that show
// nothing: Hangul fillers, the combining grapheme joiner, the braille blank.
func invisible(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0:
		return true
	}
	return false
}

// Fold returns the text as a reader sees it: compatibility forms replaced by
// the ordinary ones (NFKC), what cannot be seen left out, every decimal digit
// one of 0 to 9. A content rule that sees only the raw text is passed by one
// zero-width space. ASCII text without control characters is returned as it is.
func (t Text) Fold() string { return Fold(string(t)) }

// Fold is Text.Fold for a string.
func Fold(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	// What is left out can stand between a letter and its accent, and what
	// NFKC makes can be something to leave out.
	return visible(norm.NFKC.String(visible(s)))
}

func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return r
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector) || invisible(r):
			return -1
		case unicode.IsDigit(r):
			return '0' + digitOf(r)
		}
		return r
	}, s)
}

// digitOf returns the value of a decimal digit. Unicode places the ten digits
// of a set side by side from zero, and some sets beside each other.
func digitOf(r rune) rune {
	n := rune(0)
	for unicode.IsDigit(r - n - 1) {
		n++
	}
	return n % 10
}
