package adapter

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

// TestReadyIsAskedLast: a command that waits behind another is asked about
// when its turn comes, not when it was put in, and a tool never sees one that
// is not ready.
func TestReadyIsAskedLast(t *testing.T) {
	r := resident(t)
	echo(t, r, "first")
	stopped := errors.New("stopped")
	var stop atomic.Bool
	ready := func() error {
		if stop.Load() {
			return stopped
		}
		return nil
	}
	go r.Run(context.Background(), req("slow", params{Token: "x"}))
	done := make(chan error, 1)
	eventually(t, "the first is with the tool", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.session != nil && len(r.session.slots) == 1
	})
	c := req("echo", params{Token: "y"})
	c.Ready = ready
	stop.Store(true)
	go func() {
		_, err := r.Run(context.Background(), c)
		done <- err
	}()
	if err := <-done; !errors.Is(err, channel.ErrNotStarted) || !errors.Is(err, stopped) {
		t.Errorf("not ready: %v", err)
	}
	echo(t, r, "afterwards")
	stop.Store(false)
	if _, err := r.Run(context.Background(), c); err != nil {
		t.Errorf("ready: %v", err)
	}

	o := once(t, "print", "0")
	if _, err := o.Run(context.Background(), channel.Command{Argv: []string{filepath.Base(o.spec.Tool)}, Ready: func() error { return stopped }}); !errors.Is(err, channel.ErrNotStarted) || !errors.Is(err, stopped) {
		t.Errorf("one shot that is not ready: %v", err)
	}
}
