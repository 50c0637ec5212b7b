package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/journal"
)

func queueListCommand() command {
	return command{
		name: "queue list", args: "[--json]",
		about: "what was held, refused or interrupted, newest first",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if err := noArguments("queue list", words); err != nil {
					return err
				}
				var answer struct{ Letters json.RawMessage }
				if err := e.askAdmin(ctx, "queue.list", struct{}{}, &answer); err != nil {
					return err
				}
				if *asJSON {
					return e.json(answer.Letters)
				}
				var letters []journal.Letter
				if err := json.Unmarshal(answer.Letters, &letters); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				if len(letters) == 0 {
					e.say("the queue is empty", "")
					return nil
				}
				rows := [][]string{{"ID", "TIME", "STATE", "CHANNEL", "PEER", "CLIENT", "COUNT", "REASON"}}
				for _, l := range letters {
					rows = append(rows, []string{l.ID, seconds(l.Time), string(l.State), l.Channel, l.Peer, l.Client, strconv.Itoa(l.Count), l.Reason})
				}
				e.table(rows)
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

func queueShowCommand() command {
	return command{
		name: "queue show", args: "ID [--json]",
		about: "one dead letter with its body; the beginning of an id is enough",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				if len(words) != 1 {
					return usagef("queue show", "queue show needs one ID")
				}
				var raw json.RawMessage
				if err := e.askAdmin(ctx, "queue.show", map[string]string{"id": words[0]}, &raw); err != nil {
					return err
				}
				if *asJSON {
					return e.json(raw)
				}
				var l journal.Letter
				if err := json.Unmarshal(raw, &l); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				e.printLetter(l)
				return nil
			}
		},
	}
}

func (e *env) printLetter(l journal.Letter) {
	for _, row := range [][2]string{
		{"id", l.ID}, {"time", l.Time}, {"state", string(l.State)}, {"channel", l.Channel}, {"direction", l.Direction},
		{"verb", l.Verb}, {"peer", l.Peer}, {"client", l.Client}, {"reason", l.Reason}, {"rule", l.Rule},
		{"count", strconv.Itoa(l.Count)}, {"digest", l.Digest},
	} {
		if row[1] != "" {
			e.printf("%-10s%s\n", row[0], row[1])
		}
	}
	if l.Body == "" {
		e.printf("%-10s%s\n", "body", "(not kept)")
		return
	}
	// Each line begins with the name of the field, so that no line of the
	// message can pass for a line of ours.
	for line := range strings.SplitSeq(l.Body, "\n") {
		e.printf("%-10s%s\n", "body", line)
	}
}

func queuePurgeCommand() command {
	return command{
		name: "queue purge", args: "[ID] [--json]",
		about: "delete one dead letter, or all that wait for nobody",
		setup: func(fs *flag.FlagSet) func(context.Context, *env, []string) error {
			asJSON := jsonFlag(fs)
			return func(ctx context.Context, e *env, words []string) error {
				params := map[string]string{}
				switch len(words) {
				case 0:
				case 1:
					if words[0] == "" { // not the same as no id at all
						return usagef("queue purge", "the ID is empty")
					}
					params["id"] = words[0]
				default:
					return usagef("queue purge", "queue purge takes one ID, or none")
				}
				var raw json.RawMessage
				if err := e.askAdmin(ctx, "queue.purge", params, &raw); err != nil {
					return err
				}
				if *asJSON {
					return e.json(raw)
				}
				var answer struct{ Purged int }
				if err := json.Unmarshal(raw, &answer); err != nil {
					return fmt.Errorf("the gateway's answer: %w", err)
				}
				e.printf("purged %d\n", answer.Purged)
				return nil
			}
		},
	}
}
