package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/carapace-gateway/carapace/gateway/wire"
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

func statusCommand() command {
	return command{
		name: "status", args: "[--json]",
		about: "what the gateway is doing; root and the service user see more",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if err := noArguments("status", words); err != nil {
					return err
				}
				raw, s, err := e.status(ctx)
				if err != nil {
					return err
				}
				if *asJSON {
					return e.json(raw)
				}
				e.printStatus(s)
				return nil
			}
		},
	}
}

// status asks the admin socket when this user may, else the client socket.
func (e *env) status(ctx context.Context) (json.RawMessage, status, error) {
	var raw json.RawMessage
	var s status
	o, owner, err := e.owner()
	if err != nil || !owner {
		// Without installation facts the client socket may still be known from
		// the environment; if not, Discover says what is missing.
		if o, err = e.discover(); err != nil {
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

func (e *env) printStatus(s status) {
	e.printf("version   %s\n", s.Version)
	if s.UptimeS != nil {
		e.printf("up        %s\n", (time.Duration(*s.UptimeS) * time.Second).String())
	}
	switch {
	case s.Locked && s.LockReason != "":
		e.printf("locked    yes: %s\n", s.LockReason)
	case s.Locked:
		e.printf("locked    yes\n")
	default:
		e.printf("locked    no\n")
	}
	if s.UptimeS != nil {
		e.printf("policy    sha256 %s\n", s.PolicySHA256)
		if s.PolicyRefused != "" {
			e.printf("          %s\n", s.PolicyRefused)
		}
		e.printf("audit     %d records\n", s.AuditRecords)
		if s.AuditError != "" {
			e.printf("          %s\n", s.AuditError)
		}
		clients := "none"
		if len(s.Clients) > 0 {
			clients = strings.Join(s.Clients, ", ")
		}
		e.printf("clients   %s\n", clients)
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
		e.printf("counters  %s\n", strings.Join(names, ", "))
	}
	e.printf("channels\n")
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
	e.table(rows)
}

// table prints rows in columns.
func (e *env) table(rows [][]string) {
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = wire.Escape(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}
