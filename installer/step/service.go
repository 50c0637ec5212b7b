package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Service is one unit of the service manager and how it is to run. Where no
// service manager runs it starts nothing, and its undoing still ends what
// somebody started by hand.
type Service struct {
	Unit  string `json:"unit"`
	Start bool   `json:"start"` // run it, now and at boot
	// Inputs are the hashes of what a running process has read (program,
	// definition, configuration): when one changes the process is replaced.
	Inputs  []string `json:"inputs,omitempty"`
	User    string   `json:"user"`   // whom it runs as; empty: root
	Prefix  string   `json:"prefix"` // where its program is
	Purpose string   `json:"-"`

	machine
	mem struct{}
}

// Memory implements plan.Rememberer: that there is one says that the service is
// ours.
func (s *Service) Memory() any { return s.mem }

// Recall implements plan.Rememberer.
func (s *Service) Recall(data json.RawMessage) error { return s.recallInto(data, &s.mem) }

// Kind implements plan.Step.
func (*Service) Kind() string { return "service" }

// Key implements plan.Step.
func (s *Service) Key() string { return s.Unit }

// Title implements plan.Step.
func (s *Service) Title() string {
	if s.Start {
		return "start service " + s.Unit
	}
	return "install service " + s.Unit
}

// Detail implements plan.Describer.
func (s *Service) Detail() string {
	if s.Start {
		return "now and at every boot"
	}
	return "not started"
}

// Why implements plan.Describer.
func (s *Service) Why() string { return s.Purpose }

// Plan implements plan.Step.
func (s *Service) Plan(ctx context.Context) (plan.Change, error) {
	if s.sys.Paper() {
		return plan.Make, nil
	}
	manager := s.sys.Manager(ctx)
	if manager == "" {
		if s.Start && s.User != "" { // said once, by the gateway
			return "", plan.WithHint(errors.New("no service manager runs here, so nothing can be started or kept running"),
				"answers file: start: false; the gateway is then started by hand")
		}
		return plan.Make, nil
	}
	if s.recalled {
		return plan.Make, nil
	}
	have, err := s.sys.Service(ctx, s.Unit)
	if err != nil {
		return "", err
	}
	// One whose definition is in our place is for the step of that file to
	// judge; it may be ours, of a run that was killed before it came to us.
	_, err = s.files().Lstat(s.sys.Paths().Unit(s.Unit))
	if have.Known && gone(err) {
		return "", plan.WithHint(fmt.Errorf("a service called %s exists and was not made by carapace-setup", s.Unit),
			"stop it and remove its definition")
	}
	return plan.Make, nil
}

// Apply implements plan.Step.
func (s *Service) Apply(ctx context.Context) error {
	if s.sys.Manager(ctx) == "" {
		return nil
	}
	if err := s.sys.Reload(ctx); err != nil {
		return err
	}
	have, err := s.sys.Service(ctx, s.Unit)
	switch {
	case err != nil:
		return err
	case !have.Known:
		return fmt.Errorf("the service manager does not know %s", s.Unit)
	case !s.Start:
		return s.stop(ctx, have)
	}
	if !have.Enabled {
		if err := s.sys.Enable(ctx, s.Unit); err != nil {
			return err
		}
	}
	if have.Running {
		return s.sys.Restart(ctx, s.Unit)
	}
	return s.sys.Start(ctx, s.Unit)
}

func (s *Service) stop(ctx context.Context, have platform.Service) error {
	if have.Running {
		if err := s.sys.Stop(ctx, s.Unit); err != nil {
			return err
		}
	}
	if have.Enabled {
		return s.sys.Disable(ctx, s.Unit)
	}
	return nil
}

// Verify implements plan.Step.
func (s *Service) Verify(ctx context.Context) error {
	if s.sys.Manager(ctx) == "" {
		return nil
	}
	have, err := s.sys.Service(ctx, s.Unit)
	switch {
	case err != nil:
		return err
	case !have.Known:
		return fmt.Errorf("the service manager does not know %s", s.Unit)
	case s.Start && (!have.Running || !have.Enabled):
		return fmt.Errorf("%s was to run, now and at boot: running %t, at boot %t", s.Unit, have.Running, have.Enabled)
	}
	return nil
}

// Revert implements plan.Step. The definition is another step's and still
// there.
func (s *Service) Revert(ctx context.Context) error {
	if s.sys.Manager(ctx) != "" {
		have, err := s.sys.Service(ctx, s.Unit)
		if err != nil {
			return err
		}
		if err := s.stop(ctx, have); err != nil {
			return err
		}
	}
	if s.User == "" {
		return nil
	}
	u, err := s.sys.User(ctx, s.User)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	all, err := s.sys.Processes().Of(ctx, u.UID)
	if err != nil {
		return err
	}
	ours, _ := platform.Ours(all, s.Prefix)
	for _, p := range ours {
		if err := s.sys.Processes().Terminate(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// Reload has the service manager forget definitions that are no longer there.
// It stands before the files it is about, so that its undoing comes after
// theirs.
type Reload struct {
	Units   string `json:"units"` // folder
	Purpose string `json:"-"`

	machine
}

// Kind implements plan.Step.
func (*Reload) Kind() string { return "reload" }

// Key implements plan.Step.
func (r *Reload) Key() string { return r.Units }

// Title implements plan.Step.
func (r *Reload) Title() string { return "tell the service manager about " + r.Units }

// Detail implements plan.Describer.
func (r *Reload) Detail() string { return "" }

// Why implements plan.Describer.
func (r *Reload) Why() string { return r.Purpose }

// Plan implements plan.Step.
func (r *Reload) Plan(context.Context) (plan.Change, error) { return plan.Make, nil }

// Apply implements plan.Step: the services' own steps reload when there is
// something to read.
func (r *Reload) Apply(context.Context) error { return nil }

// Verify implements plan.Step.
func (r *Reload) Verify(context.Context) error { return nil }

// Revert implements plan.Step.
func (r *Reload) Revert(ctx context.Context) error {
	if r.sys.Manager(ctx) == "" {
		return nil
	}
	return r.sys.Reload(ctx)
}
