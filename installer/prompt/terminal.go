package prompt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/AlecAivazis/survey/v2"
	"github.com/AlecAivazis/survey/v2/core"
	"github.com/AlecAivazis/survey/v2/terminal"
	"golang.org/x/term"
)

// Terminal asks at a terminal.
type Terminal struct {
	in  *input
	out *output
}

var _ Prompter = (*Terminal)(nil)

// ErrNoTerminal says that nobody can be asked.
var ErrNoTerminal = errors.New("not a terminal")

// NewTerminal returns a prompter on a terminal's two ends, ErrNoTerminal when
// one of them is not a terminal. colour permits colours.
func NewTerminal(in, out *os.File, colour bool) (*Terminal, error) {
	if !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return nil, ErrNoTerminal
	}
	core.DisableColor = !colour // survey's own switch, for the whole process
	q := &input{file: in}
	return &Terminal{in: q, out: &output{file: out, in: q}}, nil
}

func (t *Terminal) ask(p survey.Prompt, to any, opts ...survey.AskOpt) error {
	opts = append(opts, survey.WithStdio(t.in, t.out, t.out), survey.WithIcons(func(i *survey.IconSet) {
		i.Question.Text, i.Help.Text, i.Error.Text = "?", "why:", "!"
	}))
	err := survey.AskOne(p, to, opts...)
	if errors.Is(err, terminal.InterruptErr) || errors.Is(err, io.EOF) {
		return ErrInterrupted
	}
	return err
}

// Confirm implements Prompter.
func (t *Terminal) Confirm(question, why string, byDefault bool) (bool, error) {
	var a bool
	err := t.ask(&survey.Confirm{Message: question, Help: why, Default: byDefault}, &a)
	return a, err
}

// Input implements Prompter.
func (t *Terminal) Input(question, why, byDefault string, check func(string) error) (string, error) {
	var a string
	err := t.ask(&survey.Input{Message: question, Help: why, Default: byDefault}, &a,
		survey.WithValidator(func(v any) error {
			s, _ := v.(string)
			if check == nil {
				return nil
			}
			return check(strings.TrimSpace(s))
		}))
	return strings.TrimSpace(a), err
}

// Choose implements Prompter.
func (t *Terminal) Choose(question, why string, words ...string) (string, error) {
	labels := make([]string, len(words))
	for i, w := range words {
		labels[i] = "[" + w[:1] + "]" + w[1:]
	}
	var chosen string
	_, err := t.Input(question+" "+strings.Join(labels, " / "), why, words[0], func(s string) error {
		w, ok := match(strings.ToLower(s), words)
		if !ok {
			return fmt.Errorf("answer with one of: %s", strings.Join(words, ", "))
		}
		chosen = w
		return nil
	})
	return chosen, err
}
