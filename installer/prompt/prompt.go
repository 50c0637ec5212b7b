// Package prompt asks a person. It is the only importer of survey, whose
// upstream is archived: behind [Prompter] it can be replaced in one place.
//
// It promises that a question says what happens when it is answered with a
// bare return, that the reason for it is a question mark away, that what was
// typed ahead is not lost between two questions, and that Ctrl-C is
// ErrInterrupted and leaves the terminal as it was.
//
// It refuses to ask where nobody is: a Terminal is only made from a terminal.
package prompt

import (
	"errors"
	"fmt"
)

// ErrInterrupted says that the person pressed Ctrl-C or closed the input in
// place of answering.
var ErrInterrupted = errors.New("interrupted")

// Prompter asks questions. why is the help that a person can ask for.
type Prompter interface {
	// Confirm asks for yes or no.
	Confirm(question, why string, byDefault bool) (bool, error)
	// Input asks for one line; check, if not nil, refuses answers with a
	// reason, and the question is asked again.
	Input(question, why, byDefault string, check func(string) error) (string, error)
	// Choose asks for one of several words; the first letter of one is
	// enough. The first is the answer to a bare return.
	Choose(question, why string, words ...string) (string, error)
}

// Scripted answers by a table, for tests and for whoever needs no terminal. A
// question that is not in it is an error: nothing is ever guessed.
type Scripted struct {
	Answers map[string]string // by question; "" takes the default
	Asked   []string
}

var _ Prompter = (*Scripted)(nil)

func (s *Scripted) answer(question string) (string, error) {
	s.Asked = append(s.Asked, question)
	a, ok := s.Answers[question]
	if !ok {
		return "", fmt.Errorf("nobody answers the question %q", question)
	}
	return a, nil
}

// Confirm implements Prompter.
func (s *Scripted) Confirm(question, _ string, byDefault bool) (bool, error) {
	a, err := s.answer(question)
	switch {
	case err != nil:
		return false, err
	case a == "":
		return byDefault, nil
	case a == "yes" || a == "no":
		return a == "yes", nil
	}
	return false, fmt.Errorf("%q is no answer to %q", a, question)
}

// Input implements Prompter.
func (s *Scripted) Input(question, _, byDefault string, check func(string) error) (string, error) {
	a, err := s.answer(question)
	if err != nil {
		return "", err
	}
	if a == "" {
		a = byDefault
	}
	if check != nil {
		if err := check(a); err != nil {
			return "", fmt.Errorf("%q is no answer to %q: %w", a, question, err)
		}
	}
	return a, nil
}

// Choose implements Prompter.
func (s *Scripted) Choose(question, _ string, words ...string) (string, error) {
	a, err := s.answer(question)
	if err != nil {
		return "", err
	}
	if w, ok := match(a, words); ok {
		return w, nil
	}
	return "", fmt.Errorf("%q is no answer to %q", a, question)
}

// match finds the word that an answer stands for.
func match(answer string, words []string) (string, bool) {
	if answer == "" {
		return words[0], true
	}
	for _, w := range words {
		if answer == w || answer == w[:1] {
			return w, true
		}
	}
	return "", false
}
