package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// phoneSeparators may stand anywhere in a phone number and mean nothing.
const phoneSeparators = " -()."

// phoneLike says whether the text can only be meant as a phone number: it
// starts like one and contains nothing else.
func phoneLike(text string) bool {
	digits := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if '0' <= c && c <= '9' {
			digits = true
		} else if c != '+' && strings.IndexByte(phoneSeparators, c) < 0 {
			return false
		}
	}
	return digits
}

// stripPhone takes the separators out and returns the rest, which is digits
// with at most one + before them.
func stripPhone(text string) (string, error) {
	if len(text) > 64 {
		return "", errors.New("a phone number has at most 64 characters")
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case '0' <= c && c <= '9', c == '+' && b.Len() == 0:
			b.WriteByte(c)
		case strings.IndexByte(phoneSeparators, c) >= 0:
		default:
			return "", errors.New("a phone number consists of digits, a + before them, and spaces, hyphens, dots or parentheses between them")
		}
	}
	return b.String(), nil
}

func parsePhone(text, region string) (Peer, error) {
	bare, err := stripPhone(text)
	if err != nil {
		return Peer{}, err
	}
	number := bare
	if strings.HasPrefix(bare, "+") {
		// What the library cannot read (service numbers, numbers of countries
		// it does not know) has one spelling already.
		if parsed, err := phonenumbers.Parse(bare, ""); err == nil {
			number = phonenumbers.Format(parsed, phonenumbers.E164)
		}
	} else {
		if region == "" {
			return Peer{}, fmt.Errorf("%w: write it as +COUNTRY NUMBER", ErrNoRegion)
		}
		if err := CheckRegion(region); err != nil {
			return Peer{}, err
		}
		parsed, err := phonenumbers.Parse(bare, region)
		if err != nil || phonenumbers.IsPossibleNumberWithReason(parsed) != phonenumbers.IS_POSSIBLE {
			return Peer{}, fmt.Errorf("it is not a phone number of region %s: write it as +COUNTRY NUMBER", region)
		}
		number = phonenumbers.Format(parsed, phonenumbers.E164)
	}
	if !e164(number) {
		return Peer{}, errors.New("a phone number has 3 to 15 digits with its country code, which does not start with 0")
	}
	// A number that reads differently the second time has no canonical form.
	if parsed, err := phonenumbers.Parse(number, ""); err == nil && phonenumbers.Format(parsed, phonenumbers.E164) != number {
		return Peer{}, errors.New("the phone number is ambiguous")
	}
	return Peer{KindPhone, number}, nil
}

func e164(s string) bool {
	if len(s) < 4 || len(s) > 16 || s[0] != '+' || s[1] == '0' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// CheckRegion says why a region cannot be used to read phone numbers; nil
// means it can. Regions are ISO 3166-1 alpha-2 codes in capitals.
func CheckRegion(region string) error {
	if len(region) != 2 || phonenumbers.GetCountryCodeForRegion(region) == 0 {
		return errors.New("a region is a two-letter country code in capitals, such as US or DE")
	}
	return nil
}
