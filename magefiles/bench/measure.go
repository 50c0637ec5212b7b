package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// measure is one thing whose duration counts. An error ends the bench: a run
// that failed took its time for something else.
type measure struct {
	name string
	run  func(context.Context) error
}

// result is what the runs of one measure took, sorted.
type result struct {
	name  string
	times []time.Duration
}

// quantile returns the time below which the part q of the runs lies.
func (r result) quantile(q float64) time.Duration {
	if len(r.times) == 0 {
		return 0
	}
	return r.times[min(int(q*float64(len(r.times))), len(r.times)-1)]
}

// median returns the middle time; of an even number, the mean of the two.
func (r result) median() time.Duration {
	n := len(r.times)
	if n == 0 {
		return 0
	}
	return (r.times[(n-1)/2] + r.times[n/2]) / 2
}

// interleave runs all measures in rounds. Each round begins one place later
// than the one before, so that no measure always runs in the wake of the same
// other one.
func interleave(ctx context.Context, all []measure, warm, runs int) ([]result, error) {
	results := make([]result, len(all))
	for i, m := range all {
		results[i].name = m.name
	}
	for round := range warm + runs {
		for i := range all {
			k := (i + round) % len(all)
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("interrupted in round %d: %w", round+1, err)
			}
			begin := time.Now()
			err := all[k].run(ctx)
			took := time.Since(begin)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", all[k].name, err)
			}
			if round >= warm {
				results[k].times = append(results[k].times, took)
			}
		}
	}
	for _, r := range results {
		slices.Sort(r.times)
	}
	return results, nil
}

// aim is a promise about the relation of two sums of medians.
type aim struct {
	what     string
	of, to   []string
	most     float64
	perWords string
}

// aims are the promises of the project about speed.
var aims = []aim{
	{"start of carapacectl to answered ping", []string{ping}, []string{empty}, 1.5, "the empty program"},
	{"start of the shim to an answer", []string{answer}, []string{empty}, 1.5, "the empty program"},
	{"a refused send", []string{refused}, []string{empty, durable}, 1.5, "the empty program and one durable append"},
	{"a sent message", []string{allowed}, []string{empty, durable}, 1.5, "the empty program and one durable append"},
	{"a sent message", []string{allowed}, []string{sudo}, 0.5, "sudo -n -u of the same tool"},
}

// report prints the table and then the aims that can be judged with it.
func report(w io.Writer, results []result) {
	medians := make(map[string]time.Duration)
	for _, r := range results {
		medians[r.name] = r.median()
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "median\tp10\tp90\t÷ empty\t \n")
	for _, r := range results {
		ratio := "–"
		if medians[empty] > 0 {
			ratio = fmt.Sprintf("%.2f", float64(medians[r.name])/float64(medians[empty]))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t  %s\n", ms(r.median()), ms(r.quantile(0.1)), ms(r.quantile(0.9)), ratio, r.name)
	}
	t.Flush()
	fmt.Fprintln(w)
	for _, a := range aims {
		of, ok1 := sum(medians, a.of)
		to, ok2 := sum(medians, a.to)
		if !ok1 || !ok2 {
			continue
		}
		verdict := "met"
		ratio := float64(of) / float64(to)
		if ratio > a.most {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s: %.2f × %s (%s); aim ≤ %.1f: %s\n", a.what, ratio, a.perWords, ms(to), a.most, verdict)
	}
}

// sum adds medians; false when one of them was not measured.
func sum(medians map[string]time.Duration, names []string) (time.Duration, bool) {
	var total time.Duration
	for _, n := range names {
		if medians[n] <= 0 {
			return 0, false
		}
		total += medians[n]
	}
	return total, true
}

// ms writes a time in milliseconds, so that a column can be compared at sight.
func ms(d time.Duration) string {
	return fmt.Sprintf("%.3f ms", float64(d)/float64(time.Millisecond))
}
