package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/ctl"
)

// letter is a dead letter (interface §9).
type letter struct {
	ID, Time, Channel, Direction, Verb, Peer, Reason, Rule, State, Client, Digest, Body string
	Count                                                                               int
}

func (a *app) queueListCommand() ctl.Command {
	return ctl.Command{
		Name: "queue list", Args: "[--json]",
		About: "what was held, refused or interrupted, newest first",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if err := ctl.NoArguments("queue list", words); err != nil {
					return err
				}
				var answer struct{ Letters json.RawMessage }
				if err := a.askAdmin(ctx, e, "queue.list", struct{}{}, &answer); err != nil {
					return err
				}
				if *asJSON {
					return e.JSON(answer.Letters)
				}
				var letters []letter
				if err := json.Unmarshal(answer.Letters, &letters); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				if len(letters) == 0 {
					e.Say("the queue is empty")
					return nil
				}
				rows := [][]string{{"ID", "TIME", "STATE", "CHANNEL", "PEER", "CLIENT", "COUNT", "REASON"}}
				for _, l := range letters {
					rows = append(rows, []string{l.ID, seconds(l.Time), l.State, l.Channel, l.Peer, l.Client, strconv.Itoa(l.Count), l.Reason})
				}
				e.Table(rows)
				return nil
			}
		},
	}
}

// seconds shortens a time of ours to what a table needs.
func seconds(t string) string {
	if date, _, ok := strings.Cut(t, "."); ok && strings.HasSuffix(t, "Z") {
		return date + "Z"
	}
	return t
}

func (a *app) queueShowCommand() ctl.Command {
	return ctl.Command{
		Name: "queue show", Args: "ID [--json]",
		About: "one dead letter with its body; the beginning of an id is enough",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				if len(words) != 1 {
					return ctl.Usagef("queue show", "queue show needs one ID")
				}
				var raw json.RawMessage
				if err := a.askAdmin(ctx, e, "queue.show", map[string]string{"id": words[0]}, &raw); err != nil {
					return err
				}
				if *asJSON {
					return e.JSON(raw)
				}
				var l letter
				if err := json.Unmarshal(raw, &l); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				printLetter(e, l)
				return nil
			}
		},
	}
}

func printLetter(e *ctl.Env, l letter) {
	for _, row := range [][2]string{
		{"id", l.ID}, {"time", l.Time}, {"state", l.State}, {"channel", l.Channel}, {"direction", l.Direction},
		{"verb", l.Verb}, {"peer", l.Peer}, {"client", l.Client}, {"reason", l.Reason}, {"rule", l.Rule},
		{"count", strconv.Itoa(l.Count)}, {"digest", l.Digest},
	} {
		if row[1] != "" {
			e.Printf("%-10s%s\n", row[0], row[1])
		}
	}
	if l.Body == "" {
		e.Printf("%-10s%s\n", "body", "(not kept)")
		return
	}
	// Each line begins with the name of the field, so that no line of the
	// message can pass for a line of ours.
	for line := range strings.SplitSeq(l.Body, "\n") {
		e.Printf("%-10s%s\n", "body", line)
	}
}

func (a *app) queuePurgeCommand() ctl.Command {
	return ctl.Command{
		Name: "queue purge", Args: "[ID] [--json]",
		About: "delete one dead letter, or all that wait for nobody",
		Setup: func(fs *flag.FlagSet) ctl.Action {
			asJSON := ctl.JSONFlag(fs)
			return func(ctx context.Context, e *ctl.Env, words []string) error {
				params := map[string]string{}
				switch len(words) {
				case 0:
				case 1:
					if words[0] == "" { // not the same as no id at all
						return ctl.Usagef("queue purge", "the ID is empty")
					}
					params["id"] = words[0]
				default:
					return ctl.Usagef("queue purge", "queue purge takes one ID, or none")
				}
				var raw json.RawMessage
				if err := a.askAdmin(ctx, e, "queue.purge", params, &raw); err != nil {
					return err
				}
				if *asJSON {
					return e.JSON(raw)
				}
				var answer struct{ Purged int }
				if err := json.Unmarshal(raw, &answer); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				e.Printf("purged %d\n", answer.Purged)
				return nil
			}
		},
	}
}
