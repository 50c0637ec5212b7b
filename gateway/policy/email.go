package policy

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// parseEmail reads one bare address (RFC 5321 mailbox, dot-atom form only). A
// display name, a quoted local part, a comment or an address literal is
// refused: each is a second way to write something that has a plain one.
func parseEmail(text string) (Peer, error) {
	local, domain, found := strings.Cut(text, "@")
	if !found || strings.Contains(domain, "@") {
		return Peer{}, errors.New("an e-mail address has exactly one @")
	}
	if local == "" || len(local) > 64 {
		return Peer{}, errors.New("the part before the @ has 1 to 64 characters")
	}
	// A leading hyphen would be read as an option by the tool that is run.
	if local[0] == '-' || local[0] == '.' || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		return Peer{}, errors.New("the part before the @ does not start with a hyphen, and dots stand between other characters")
	}
	for i := 0; i < len(local); i++ {
		if c := local[i]; !letterOrDigit(c) && strings.IndexByte("!#$%&'+-/=?^_`{|}~.", c) < 0 {
			return Peer{}, errors.New("the part before the @ consists of ASCII letters, digits and punctuation, without spaces, quotes or comments")
		}
	}
	domain, err := parseDomain(domain)
	if err != nil {
		return Peer{}, err
	}
	address := strings.ToLower(local) + "@" + domain
	if len(address) > 254 {
		return Peer{}, errors.New("an e-mail address has at most 254 characters")
	}
	return Peer{KindEmail, address}, nil
}

// parseDomain returns a domain name in ASCII and lower case. International
// names are mapped as a browser maps them (IDNA lookup profile), but not
// before everything that the mapping would repair is refused.
func parseDomain(domain string) (string, error) {
	if norm.NFKC.String(domain) != domain || strings.ContainsFunc(domain, noLetter) {
		return "", errors.New("the domain contains characters that only look like ordinary ones")
	}
	name, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return "", errors.New("the part after the @ is not a domain name")
	}
	labels := strings.Split(name, ".")
	if len(labels) < 2 || len(name) > 253 {
		return "", errors.New("the part after the @ is a domain name with at least one dot")
	}
	for _, label := range labels {
		if err := checkLabel(label); err != nil {
			return "", err
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", errors.New("the part after the @ is a domain name, not an address of a machine")
	}
	if again, err := idna.Lookup.ToASCII(name); err != nil || again != name {
		return "", errors.New("the domain name is ambiguous")
	}
	return name, nil
}

// noLetter finds what is neither ASCII nor a letter: the dots of other scripts
// among them, which IDNA takes for ordinary ones.
func noLetter(r rune) bool { return r >= utf8.RuneSelf && !unicode.In(r, unicode.L, unicode.M) }

func checkLabel(label string) error {
	if label == "" || len(label) > 63 || label[0] == '-' || strings.HasSuffix(label, "-") {
		return errors.New("the part after the @ is not a domain name")
	}
	for i := 0; i < len(label); i++ {
		if c := label[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return errors.New("the part after the @ is not a domain name")
		}
	}
	if !strings.HasPrefix(label, "xn--") {
		return nil
	}
	shown, err := idna.Lookup.ToUnicode(label)
	if err != nil || !oneScript(shown) {
		return errors.New("the domain mixes letters of several alphabets")
	}
	for _, r := range shown {
		if foul(r) != "" {
			return errors.New("the domain contains characters that cannot be seen")
		}
	}
	return nil
}

// eastAsian scripts are written together, with Latin letters among them.
var eastAsian = map[string]bool{"Han": true, "Hiragana": true, "Katakana": true, "Hangul": true, "Bopomofo": true, "Latin": true}

// oneScript says whether a label is written in one alphabet: the mixed ones
// are how a look-alike of a known name is made (UTS 39, highly restrictive).
func oneScript(label string) bool {
	found := map[string]bool{}
	for _, r := range label {
		if unicode.In(r, unicode.Common, unicode.Inherited) {
			continue
		}
		found[scriptOf(r)] = true
	}
	if len(found) <= 1 {
		return true
	}
	for script := range found {
		if !eastAsian[script] {
			return false
		}
	}
	return true
}

func scriptOf(r rune) string {
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			return name
		}
	}
	return "unknown"
}
