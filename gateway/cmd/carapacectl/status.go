package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/carapace-gateway/carapace/gateway/ctl"
)

// status is what the gateway says of itself: to a client the first three
// members, to the owner all.
type status struct {
	Version       string
	Locked        bool
	Channels      []channelStatus
	UptimeS       *int64           `json:"uptime_s"`
	LockReason    string           `json:"lock_reason"`
	PolicySHA256  string           `json:"policy_sha256"`
	PolicyRefused string           `json:"policy_refused"`
	AuditError    string           `json:"audit_error"`
	AuditRecords  uint64           `json:"audit_records"`
	Clients       []string         `json:"clients"`
	Counters      map[string]int64 `json:"counters"`
}

type channelStatus struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	PID       int    `json:"pid"`
	Restarts  int    `json:"restarts"`
	LastError string `json:"last_error"`
}

func (a *app) statusCommand() ctl.Command {
	return ctl.Command{
		Name: "status", Args: "[--json]",
		About: "what the gateway is doing; root and the service user see more",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if err := ctl.NoArguments("status", words); err != nil {
					return err
				}
				raw, s, err := a.status(ctx, e)
				if err != nil {
					return err
				}
				if *asJSON {
					return e.JSON(raw)
				}
				printStatus(e, s)
				return nil
			}
		},
	}
}

// status asks the admin socket when this user may, else the client socket.
func (a *app) status(ctx context.Context, e *ctl.Env) (json.RawMessage, status, error) {
	var raw json.RawMessage
	var s status
	o, owner, err := a.owner(e)
	if err != nil || !owner {
		// Without installation facts the client socket may still be known from
		// the environment; if not, Discover says what is missing.
		if o, err = a.discover(); err != nil {
			return nil, s, err
		}
	}
	if err := askAt(ctx, o, "status", nil, &raw); err != nil {
		return nil, s, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, s, fmt.Errorf("the gateway's answer: %w", err)
	}
	return raw, s, nil
}

func printStatus(e *ctl.Env, s status) {
	e.Printf("version   %s\n", s.Version)
	if s.UptimeS != nil {
		e.Printf("up        %s\n", (time.Duration(*s.UptimeS) * time.Second).String())
	}
	switch {
	case s.Locked && s.LockReason != "":
		e.Printf("locked    yes: %s\n", s.LockReason)
	case s.Locked:
		e.Printf("locked    yes\n")
	default:
		e.Printf("locked    no\n")
	}
	if s.UptimeS != nil {
		e.Printf("policy    sha256 %s\n", s.PolicySHA256)
		if s.PolicyRefused != "" {
			e.Printf("          %s\n", s.PolicyRefused)
		}
		e.Printf("audit     %d records\n", s.AuditRecords)
		if s.AuditError != "" {
			e.Printf("          %s\n", s.AuditError)
		}
		clients := "none"
		if len(s.Clients) > 0 {
			clients = strings.Join(s.Clients, ", ")
		}
		e.Printf("clients   %s\n", clients)
	}
	if len(s.Counters) > 0 {
		names := make([]string, 0, len(s.Counters))
		for name := range s.Counters {
			names = append(names, name)
		}
		sort.Strings(names)
		for i, name := range names {
			names[i] = fmt.Sprintf("%s %d", name, s.Counters[name])
		}
		e.Printf("counters  %s\n", strings.Join(names, ", "))
	}
	e.Printf("channels\n")
	rows := make([][]string, 0, len(s.Channels))
	for _, c := range s.Channels {
		row := []string{"  " + c.Name, c.State}
		if c.PID != 0 {
			row = append(row, fmt.Sprintf("pid %d", c.PID))
		}
		if c.Restarts != 0 {
			row = append(row, fmt.Sprintf("%d restarts", c.Restarts))
		}
		if c.LastError != "" {
			row = append(row, c.LastError)
		}
		rows = append(rows, row)
	}
	e.Table(rows)
}
