package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/prompt"
)

// errUndo says that a person chose to undo what was done so far.
var errUndo = fmt.Errorf("undo: %w", plan.ErrStopped)

// interrupts catches Ctrl-C and its relatives, so that a run only ever ends
// between two steps, and returns what the engine asks there. With a person at
// the terminal the first Ctrl-C asks; a second one, or one without a person,
// stops, and the receipt says how far it came.
func (a *app) interrupts(ask prompt.Prompter) (between func(context.Context) error, release func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	between = func(context.Context) error {
		var got os.Signal
		select {
		case got = <-signals:
		default:
			return nil
		}
		if ask == nil || got != os.Interrupt {
			return plan.ErrStopped
		}
		w, err := ask.Choose("Interrupted between two steps. What now?",
			"go on finishes the installation; stop leaves it as it is, for install or uninstall to take up; undo takes back all that was done",
			"go on", "stop", "undo")
		switch {
		case errors.Is(err, prompt.ErrInterrupted) || w == "stop":
			return plan.ErrStopped
		case err != nil:
			return err
		case w == "undo":
			return errUndo
		}
		return nil
	}
	return between, func() { signal.Stop(signals) }
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
