package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		times []time.Duration
		want  time.Duration
	}{
		{nil, 0},
		{[]time.Duration{7}, 7},
		{[]time.Duration{2, 4}, 3},
		{[]time.Duration{1, 2, 100}, 2},
	} {
		if got := (result{times: c.times}).median(); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.times, got, c.want)
		}
	}
}

// Every measure runs equally often, and none always after the same other one.
func TestInterleaveTakesTurns(t *testing.T) {
	var order []string
	var all []measure
	for _, name := range []string{"a", "b", "c"} {
		all = append(all, measure{name, func(context.Context) error { order = append(order, name); return nil }})
	}
	results, err := interleave(t.Context(), all, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "abc"+"bca"+"cab"+"abc" {
		t.Errorf("ran in the order %s", got)
	}
	for _, r := range results {
		if len(r.times) != 3 || !slices.IsSorted(r.times) {
			t.Errorf("%s: %v, want 3 sorted times", r.name, r.times)
		}
	}
}

func TestInterleaveEndsAtAFailure(t *testing.T) {
	broken := errors.New("not sent")
	_, err := interleave(t.Context(), []measure{{"x", func(context.Context) error { return broken }}}, 0, 50)
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the failure of the measure", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := interleave(ctx, []measure{{"x", func(context.Context) error { return nil }}}, 0, 50); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after an interrupt", err)
	}
}

func TestReportJudgesTheAims(t *testing.T) {
	one := func(name string, d time.Duration) result { return result{name, []time.Duration{d}} }
	var out strings.Builder
	report(&out, []result{one(empty, 2*time.Millisecond), one(ping, 5*time.Millisecond), one(allowed, 4*time.Millisecond), one(sudo, 16*time.Millisecond)})
	for _, want := range []string{
		"start of carapacectl to answered ping: 2.50 × the empty program (2.000 ms); aim ≤ 1.5: MISSED",
		"a sent message: 0.25 × sudo -n -u of the same tool (16.000 ms); aim ≤ 0.5: met",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "durable append") {
		t.Errorf("an aim was judged whose parts were not measured:\n%s", out.String())
	}
}

func TestFileSystem(t *testing.T) {
	fs, err := fileSystem(t.TempDir())
	if err != nil || fs.name == "" {
		t.Errorf("got %+v, %v", fs, err)
	}
	if _, err := fileSystem("/does/not/exist"); err == nil {
		t.Error("a folder that does not exist has a file system")
	}
}
