package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// record is an audit record (interface §9), as far as it is shown.
type record struct {
	Seq       uint64
	Time      string
	Kind      string
	ID        string
	ClientUID *uint32 `json:"client_uid"`
	PID       int32
	Channel   string
	Direction string
	Verb      string
	Command   string
	Peers     []string
	Verdict   string
	Rule      string
	Reason    string
	Exit      *int
	Count     int
	Digest    string
}

// page is one answer to audit.show.
type page struct {
	Records []json.RawMessage
	Next    uint64
}

// pageSize is the most that the gateway gives at once.
const pageSize = 500

// between is how often audit tail -f looks for more.
const between = 500 * time.Millisecond

func (a *app) auditTailCommand() ctl.Command {
	return ctl.Command{
		Name: "audit tail", Args: "[-f] [-n N] [--json]",
		About: "the last records of the audit log; -f waits for more",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			follow := fs.Bool("f", false, "wait for more")
			n := fs.Int("n", 20, "how many records to begin with, at most 500")
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if err := ctl.NoArguments("audit tail", words); err != nil {
					return err
				}
				if *n < 0 || *n > pageSize {
					return ctl.Usagef("audit tail", "-n is from 0 to %d", pageSize)
				}
				var p page
				if err := a.askAdmin(ctx, e, "audit.show", map[string]int{"tail": max(*n, 1)}, &p); err != nil {
					return err
				}
				if *n == 0 {
					p.Records = nil
				}
				if err := printRecords(e, p.Records, *asJSON); err != nil {
					return err
				}
				if !*follow {
					return nil
				}
				return a.follow(ctx, e, p.Next, *asJSON)
			}
		},
	}
}

// follow prints records from next on until it is interrupted. A gateway that
// restarts is waited for: the numbers of the records go on.
func (a *app) follow(ctx context.Context, e *ctl.Env, next uint64, asJSON bool) error {
	away := false
	for {
		if err := e.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(between):
		}
		err := a.pages(ctx, e, next, 0, func(p page) error {
			next = p.Next
			return printRecords(e, p.Records, asJSON)
		})
		if ctx.Err() != nil {
			return nil
		}
		u, unreachable := errors.AsType[*wire.UnreachableError](err)
		switch {
		case err == nil:
			away = false
		case !unreachable || u.Exit() != wire.ExitUnavailable || errors.Is(err, wire.ErrWrongServer):
			return err
		case !away:
			away = true
			e.Say("the gateway is away; waiting for it")
		}
	}
}

// pages asks for records from a number on, at most limit of them (0: all there
// are), and hands them on page by page.
func (a *app) pages(ctx context.Context, e *ctl.Env, from uint64, limit int, each func(page) error) error {
	c, err := a.dialAdmin(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	for got := 0; limit == 0 || got < limit; {
		want := pageSize
		if limit > 0 {
			want = min(want, limit-got)
		}
		var p page
		if err := c.Call(ctx, "audit.show", map[string]uint64{"from": from, "limit": uint64(want)}, &p); err != nil {
			return err
		}
		if len(p.Records) == 0 {
			return nil
		}
		if p.Next <= from {
			return fmt.Errorf("the gateway's answer: record %d comes after %d", p.Next, from)
		}
		if err := each(p); err != nil {
			return err
		}
		from = p.Next
		got += len(p.Records)
	}
	return nil
}

func (a *app) auditShowCommand() ctl.Command {
	return ctl.Command{
		Name: "audit show", Args: "[--from SEQ] [--limit N] [--json]",
		About: "the records of the audit log, oldest first",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			from := fs.Uint64("from", 0, "number of the first record")
			limit := fs.Int("limit", 0, "how many records; 0: all")
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if err := ctl.NoArguments("audit show", words); err != nil {
					return err
				}
				if *limit < 0 {
					return ctl.Usagef("audit show", "--limit is not negative")
				}
				return a.pages(ctx, e, *from, *limit, func(p page) error {
					return printRecords(e, p.Records, *asJSON)
				})
			}
		},
	}
}

// printRecords prints records one a line.
func printRecords(e *ctl.Env, records []json.RawMessage, asJSON bool) error {
	for _, raw := range records {
		if asJSON {
			if err := e.JSON(raw); err != nil {
				return err
			}
			continue
		}
		var r record
		if err := json.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("the gateway's answer: %w", err)
		}
		e.Printf("%s\n", recordLine(r))
	}
	return nil
}

// recordLine is one record for a person: what and when first, then whatever it
// has, named where it would not be known by its look.
func recordLine(r record) string {
	words := []string{strconv.FormatUint(r.Seq, 10), r.Time, r.Kind}
	add := func(name, value string) {
		if value == "" {
			return
		}
		if strings.ContainsAny(value, " \"=") { // it must not pass for another field
			value = strconv.Quote(value)
		}
		if name != "" {
			value = name + "=" + value
		}
		words = append(words, value)
	}
	add("", r.Channel)
	add("", r.Direction)
	add("", r.Verb)
	add("command", r.Command)
	add("peers", strings.Join(r.Peers, ","))
	add("verdict", r.Verdict)
	add("rule", r.Rule)
	add("reason", r.Reason)
	if r.Exit != nil {
		add("exit", strconv.Itoa(*r.Exit))
	}
	if r.Count > 0 {
		add("count", strconv.Itoa(r.Count))
	}
	add("id", r.ID)
	if r.ClientUID != nil {
		add("uid", strconv.FormatUint(uint64(*r.ClientUID), 10))
	}
	if r.PID != 0 {
		add("pid", strconv.FormatInt(int64(r.PID), 10))
	}
	add("digest", r.Digest)
	return strings.Join(words, " ")
}

// auditVerify asks the gateway about its own log, and the other half of this
// program about a folder.
func (a *app) auditVerify(ctx context.Context, e *ctl.Env, dir string) (v ctl.Verified, err error) {
	if dir != "" {
		return v, a.handOver(e)
	}
	err = a.askAdmin(ctx, e, "audit.verify", struct{}{}, &v)
	if w, ok := errors.AsType[*wire.Error](err); ok && w.Code == wire.CodeInternal {
		err = &ctl.Failure{Code: wire.ExitFailed, Lines: []string{w.Message}, Hint: w.Hint()}
	}
	return v, err
}
