package platform

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager implements Services: the folder exists exactly while systemd is the
// running service manager (sd_booted(3)).
func (l *LinuxHost) Manager(context.Context) string {
	if l.OnPaper {
		return "systemd"
	}
	flag := l.SystemdFlag
	if flag == "" {
		flag = "/run/systemd/system"
	}
	if info, err := os.Lstat(flag); err != nil || !info.IsDir() {
		return ""
	}
	return "systemd"
}

func (l *LinuxHost) systemctl() string {
	if l.Systemctl != "" {
		return l.Systemctl
	}
	return "/usr/bin/systemctl"
}

// Service implements Services.
func (l *LinuxHost) Service(ctx context.Context, unit string) (Service, error) {
	res, err := l.Run.Read(ctx, l.systemctl(), "show", "--no-pager",
		"--property=LoadState,ActiveState,UnitFileState,MainPID", "--", unit)
	if err == nil && res.Exit != 0 {
		err = &CommandError{Name: "systemctl", Exit: res.Exit, Line: lastLine(res)}
	}
	if err != nil {
		return Service{}, fmt.Errorf("state of %s: %w", unit, err)
	}
	var s Service
	for _, line := range strings.Split(res.Stdout, "\n") {
		key, val, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "LoadState":
			s.Known = val == "loaded"
		case "ActiveState":
			s.Running = val == "active" || val == "reloading" || val == "activating"
		case "UnitFileState":
			s.Enabled = val == "enabled" || val == "enabled-runtime"
		case "MainPID":
			s.PID, _ = strconv.Atoi(val)
		}
	}
	return s, nil
}

func (l *LinuxHost) control(ctx context.Context, args ...string) error {
	if _, err := l.Run.Write(ctx, l.systemctl(), args...); err != nil {
		return err
	}
	return nil
}

// Reload implements Services.
func (l *LinuxHost) Reload(ctx context.Context) error {
	if err := l.control(ctx, "daemon-reload"); err != nil {
		return fmt.Errorf("read the units anew: %w", err)
	}
	return nil
}

// Enable implements Services.
func (l *LinuxHost) Enable(ctx context.Context, unit string) error {
	return l.toState(ctx, unit, "enable", func(s Service) bool { return s.Enabled })
}

// Disable implements Services.
func (l *LinuxHost) Disable(ctx context.Context, unit string) error {
	return l.toState(ctx, unit, "disable", func(s Service) bool { return !s.Enabled })
}

// Start implements Services.
func (l *LinuxHost) Start(ctx context.Context, unit string) error {
	return l.toState(ctx, unit, "start", func(s Service) bool { return s.Running })
}

// Restart implements Services.
func (l *LinuxHost) Restart(ctx context.Context, unit string) error {
	return l.toState(ctx, unit, "restart", func(s Service) bool { return s.Running })
}

// Stop implements Services.
func (l *LinuxHost) Stop(ctx context.Context, unit string) error {
	return l.toState(ctx, unit, "stop", func(s Service) bool { return !s.Running })
}

// toState runs one verb and reads back, for 15 s at most, whether it took.
func (l *LinuxHost) toState(ctx context.Context, unit, verb string, ok func(Service) bool) error {
	if err := l.control(ctx, verb, "--", unit); err != nil {
		return fmt.Errorf("%s %s: %w", verb, unit, err)
	}
	deadline := time.Now().Add(15 * time.Second)
	for {
		s, err := l.Service(ctx, unit)
		if err != nil {
			return err
		}
		if ok(s) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s %s: the command succeeded and its state is %+v", verb, unit, s)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
