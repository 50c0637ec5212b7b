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

	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// page is one answer to audit.show.
type page struct {
	Records []json.RawMessage
	Next    uint64
}

// pageSize is the most that the gateway gives at once.
const pageSize = 500

// between is how often audit tail -f looks for more.
const between = 500 * time.Millisecond

func auditTailCommand() command {
	return command{
		name: "audit tail", args: "[-f] [-n N] [--json]",
		about: "the last records of the audit log; -f waits for more",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			follow := fs.Bool("f", false, "wait for more")
			n := fs.Int("n", 20, "how many records to begin with, at most 500")
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if err := noArguments("audit tail", words); err != nil {
					return err
				}
				if *n < 0 || *n > pageSize {
					return usagef("audit tail", "-n is from 0 to %d", pageSize)
				}
				var p page
				if err := e.askAdmin(ctx, "audit.show", map[string]int{"tail": max(*n, 1)}, &p); err != nil {
					return err
				}
				if *n == 0 {
					p.Records = nil
				}
				if err := e.printRecords(p.Records, *asJSON); err != nil {
					return err
				}
				if !*follow {
					return nil
				}
				return e.follow(ctx, p.Next, *asJSON)
			}
		},
	}
}

// follow prints records from next on until it is interrupted. A gateway that
// restarts is waited for: the numbers of the records go on.
func (e *env) follow(ctx context.Context, next uint64, asJSON bool) error {
	away := false
	for {
		if err := e.out.Flush(); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(between):
		}
		err := e.pages(ctx, next, 0, func(p page) error {
			next = p.Next
			return e.printRecords(p.Records, asJSON)
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
			e.say("the gateway is away; waiting for it", "")
		}
	}
}

// pages asks for records from a number on, at most limit of them (0: all there
// are), and hands them on page by page.
func (e *env) pages(ctx context.Context, from uint64, limit int, each func(page) error) error {
	c, err := e.dialAdmin(ctx)
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

func auditShowCommand() command {
	return command{
		name: "audit show", args: "[--from SEQ] [--limit N] [--json]",
		about: "the records of the audit log, oldest first",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			from := fs.Uint64("from", 0, "number of the first record")
			limit := fs.Int("limit", 0, "how many records; 0: all")
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if err := noArguments("audit show", words); err != nil {
					return err
				}
				if *limit < 0 {
					return usagef("audit show", "--limit is not negative")
				}
				return e.pages(ctx, *from, *limit, func(p page) error {
					return e.printRecords(p.Records, *asJSON)
				})
			}
		},
	}
}

// printRecords prints records one a line.
func (e *env) printRecords(records []json.RawMessage, asJSON bool) error {
	for _, raw := range records {
		if asJSON {
			if err := e.json(raw); err != nil {
				return err
			}
			continue
		}
		var r journal.Event
		if err := json.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("the gateway's answer: %w", err)
		}
		e.printf("%s\n", recordLine(r))
	}
	return nil
}

// recordLine is one record for a person: what and when first, then whatever it
// has, named where it would not be known by its look.
func recordLine(r journal.Event) string {
	words := []string{strconv.FormatUint(r.Seq, 10), r.Time, string(r.Kind)}
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

func auditVerifyCommand() command {
	return command{
		name: "audit verify", args: "[DIR] [--json]",
		about: "is every record what was written?",
		more: `Without DIR the gateway verifies the log that it has open. With DIR the log
there is verified, with no gateway; a copy of it will do.`,
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				var v verified
				var err error
				switch len(words) {
				case 0:
					err = e.askAdmin(ctx, "audit.verify", struct{}{}, &v)
					if w, ok := errors.AsType[*wire.Error](err); ok && w.Code == wire.CodeInternal {
						err = &failure{wire.ExitFailed, []string{w.Message}, w.Hint()}
					}
				case 1:
					v, err = verifyFolder(words[0])
				default:
					return usagef("audit verify", "audit verify takes one DIR, or none")
				}
				if err != nil {
					if f, ok := errors.AsType[*failure](err); ok && *asJSON {
						if err := e.json(verified{Error: f.Error()}); err != nil {
							return err
						}
					}
					return err
				}
				if *asJSON {
					return e.json(v)
				}
				e.printf("ok: %d records, head %s\n", v.Records, v.Head)
				return nil
			}
		},
	}
}

type verified struct {
	OK      bool   `json:"ok"`
	Records uint64 `json:"records"`
	Head    string `json:"head"`
	Error   string `json:"error,omitempty"`
}

func verifyFolder(dir string) (verified, error) {
	report, err := journal.Verify(dir)
	if err != nil {
		return verified{}, &failure{wire.ExitFailed, []string{err.Error()}, ""}
	}
	return verified{OK: true, Records: report.Records, Head: report.Head}, nil
}
