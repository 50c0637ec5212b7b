package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func openOutbox(t testing.TB, path string, o OutboxOptions) *Outbox {
	t.Helper()
	b, err := OpenOutbox(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func newOutbox(t testing.TB, o OutboxOptions) *Outbox {
	t.Helper()
	return openOutbox(t, filepath.Join(t.TempDir(), "outbox.db"), o)
}

func letter(id string, s State) Letter {
	return Letter{
		ID: id, Time: "2026-01-02T03:04:05.000006Z", Channel: "imessage", Direction: "outbound", Verb: "send", Peer: "+15551234567",
		Reason: "recipient not on the list", Rule: "config.yaml:31", State: s, Client: "alice", ClientUID: 1001,
		Digest: "digest of " + id, Count: 1, Body: "body of " + id, Operation: []byte(`{"op":1}`),
	}
}

func list(t testing.TB, o *Outbox) []Letter {
	t.Helper()
	all, err := o.List(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func ids(all []Letter) []string {
	var out []string
	for _, l := range all {
		out = append(out, l.ID)
	}
	return out
}

func mustAdd(t testing.TB, o *Outbox, l Letter) {
	t.Helper()
	if err := o.Add(ctx(t), l); err != nil {
		t.Fatal(err)
	}
}

func TestOutboxKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b#c%20 d.db")
	o := openOutbox(t, path, OutboxOptions{KeepContent: true})
	want := letter("7f3c9a0001", StateHeld)
	want.Body = "a\x00b\nc\u202e"
	mustAdd(t, o, want)
	later := letter("7f3d000000", StateRefused)
	if id, err := o.Later(later); err != nil || id != later.ID {
		t.Fatal(id, err)
	}
	check := func(o *Outbox) {
		t.Helper()
		got, err := o.Get(ctx(t), want.ID)
		if err != nil || !sameLetter(got, want) {
			t.Errorf("\ngot  %+v %v\nwant %+v", got, err, want)
		}
		all := list(t, o)
		short := want
		short.Body, short.Operation = "", nil
		if len(all) != 2 || !sameLetter(all[1], short) {
			t.Errorf("list %+v", all)
		}
		for id, wantErr := range map[string]error{"7f3c": nil, "7f3": ErrAmbiguous, "7": ErrAmbiguous, "8": ErrNotFound, "": ErrNotFound, "%": ErrNotFound, "7f3c9a00011": ErrNotFound} {
			if l, err := o.Get(ctx(t), id); !errors.Is(err, wantErr) || err == nil && l.ID != want.ID {
				t.Errorf("get %q: %v, %v", id, l.ID, err)
			}
		}
		for id, want := range map[string]bool{"7f3c9a0001": true, "7f3c": false, "x": false} {
			if has, err := o.Has(ctx(t), id); err != nil || has != want {
				t.Errorf("has %q: %v, %v", id, has, err)
			}
		}
	}
	check(o)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	check(openOutbox(t, path, OutboxOptions{KeepContent: true}))
	if err := o.Add(ctx(t), letter("x", StateHeld)); !errors.Is(err, ErrOutboxClosed) {
		t.Errorf("after close: %v", err)
	}
	if _, err := o.Later(letter("x", StateRefused)); !errors.Is(err, ErrOutboxClosed) {
		t.Errorf("after close: %v", err)
	}
}

func sameLetter(a, b Letter) bool {
	same := bytes.Equal(a.Operation, b.Operation)
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && same && bytes.Equal(x, y)
}

// The JSON of a letter in the list is what interface §9 fixes.
func TestLetterJSON(t *testing.T) {
	o := newOutbox(t, OutboxOptions{KeepContent: true})
	mustAdd(t, o, letter("aa", StateHeld))
	b, err := json.Marshal(list(t, o))
	want := `[{"id":"aa","time":"2026-01-02T03:04:05.000006Z","channel":"imessage","direction":"outbound","verb":"send",` +
		`"peer":"+15551234567","reason":"recipient not on the list","rule":"config.yaml:31","state":"held","client":"alice",` +
		`"client_uid":1001,"digest":"digest of aa","count":1}]`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

// Defect e of the original: the name of a dead letter was the client's choice,
// and two of the same name were one.
func TestOutboxIDs(t *testing.T) {
	o := newOutbox(t, OutboxOptions{KeepContent: true})
	mustAdd(t, o, letter("aa", StateHeld))
	other := letter("aa", StateHeld)
	other.Body = "another"
	if err := o.Add(ctx(t), other); !errors.Is(err, ErrExists) {
		t.Errorf("the same id again: %v", err)
	}
	refused := letter("aa", StateRefused)
	if _, err := o.Later(refused); err != nil {
		t.Fatal(err)
	}
	if l, err := o.Get(ctx(t), "aa"); err != nil || l.Body != "body of aa" || l.State != StateHeld {
		t.Errorf("overwritten: %+v, %v", l, err)
	}
	for _, id := range []string{"", "../x", "a/b", "a b", "a\n", "é", "'", strings.Repeat("a", 65)} {
		if err := o.Add(ctx(t), letter(id, StateHeld)); err == nil {
			t.Errorf("id %q taken", id)
		}
		if _, err := o.Later(letter(id, StateRefused)); err == nil {
			t.Errorf("id %q taken", id)
		}
	}
	for _, l := range []Letter{{ID: "x", State: "odd"}, {ID: "x"}, {ID: "x", State: StateHeld, Time: "now"}, {ID: "x", State: StateHeld, Operation: make([]byte, maxOperation+1)}} {
		if err := o.Add(ctx(t), l); err == nil {
			t.Errorf("taken: %+v", l.State)
		}
	}
	for _, s := range []State{StateHeld, StateSending, StateApproved} {
		if _, err := o.Later(letter("x", s)); err == nil {
			t.Errorf("a letter that is %s need not be durable", s)
		}
	}
	if n := len(list(t, o)); n != 1 {
		t.Errorf("%d letters", n)
	}
}

// An agent that asks for the same again and again fills nothing, and the id it
// is told exists.
func TestOutboxFolds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	o := openOutbox(t, path, OutboxOptions{KeepContent: true})
	same := letter("first", StateRefused)
	later := func(id string, change func(*Letter)) string {
		t.Helper()
		l := same
		l.ID = id
		if change != nil {
			change(&l)
		}
		got, err := o.Later(l)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	later("first", nil)
	for i := range 5 {
		if got := later(fmt.Sprint("again", i), func(l *Letter) { l.Time = fmt.Sprintf("2026-01-02T03:04:%02d.000000Z", 10+i) }); got != "first" {
			t.Errorf("told %q", got)
		}
	}
	changes := map[string]func(*Letter){
		"digest": func(l *Letter) { l.Digest = "other" }, "client": func(l *Letter) { l.ClientUID++ },
		"reason": func(l *Letter) { l.Reason = "other" }, "channel": func(l *Letter) { l.Channel = "signal" },
		"state": func(l *Letter) { l.State = StateInterrupted }, "nodigest": func(l *Letter) { l.Digest = "" },
		"nodigest2": func(l *Letter) { l.Digest = "" },
	}
	for id, change := range changes {
		if got := later(id, change); got != id {
			t.Errorf("%s: folded into %q", id, got)
		}
	}
	l, err := o.Get(ctx(t), "first")
	if err != nil || l.Count != 6 || l.Time != "2026-01-02T03:04:14.000000Z" || l.Body != "body of first" {
		t.Errorf("%+v, %v", l, err)
	}
	if n := len(list(t, o)); n != 1+len(changes) {
		t.Errorf("%d letters", n)
	}
	o.Close()
	o = openOutbox(t, path, OutboxOptions{KeepContent: true})
	if got := later("restart", nil); got != "first" {
		t.Errorf("after a restart: told %q", got)
	}
	// A letter that is gone, or that a person has dealt with, is not folded into.
	if n, err := o.Purge(ctx(t), "first"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if got := later("second", nil); got != "second" {
		t.Errorf("after a purge: told %q", got)
	}
	if err := o.Flush(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if err := o.SetState(ctx(t), "second", StateRefused, StateRejected); err != nil {
		t.Fatal(err)
	}
	if got := later("third", nil); got != "third" {
		t.Errorf("after a rejection: told %q", got)
	}
	if l, err := o.Get(ctx(t), "third"); err != nil || l.Count != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

// Whatever happens to letters meanwhile, the id that is told is there.
func TestOutboxFoldsUnderFire(t *testing.T) {
	o := newOutbox(t, OutboxOptions{Max: 50})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := o.Purge(context.Background(), ""); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 150 {
				if _, err := o.Later(Letter{ID: fmt.Sprintf("%d-%d", w, i), Digest: fmt.Sprint(i % 7), Reason: "r"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	wg.Wait()
	id, err := o.Later(Letter{ID: "last", Digest: "3", Reason: "r"})
	if err != nil {
		t.Fatal(err)
	}
	if has, err := o.Has(ctx(t), id); err != nil || !has {
		t.Errorf("%s: %v, %v", id, has, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.folds) > 50 || len(o.folded) > 50 {
		t.Errorf("the memory of refusals grows: %d, %d", len(o.folds), len(o.folded))
	}
}

func TestSetState(t *testing.T) {
	o := newOutbox(t, OutboxOptions{})
	mustAdd(t, o, letter("aa", StateHeld))
	steps := []struct {
		id       string
		from, to State
		want     error
	}{
		{"aa", StateApproved, StateSending, ErrWrongState},
		{"a", StateHeld, StateApproved, ErrNotFound},
		{"aa", StateHeld, StateApproved, nil},
		{"aa", StateHeld, StateApproved, ErrWrongState},
		{"aa", StateApproved, StateSending, nil},
		{"aa", StateSending, StateSent, nil},
	}
	for _, s := range steps {
		if err := o.SetState(ctx(t), s.id, s.from, s.to); !errors.Is(err, s.want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, s := range [][2]State{{StateSent, StateSending}, {"odd", StateHeld}, {StateHeld, "odd"}} {
		if err := o.SetState(ctx(t), "aa", s[0], s[1]); err == nil {
			t.Errorf("%v taken", s)
		}
	}
	// Of many who want the same letter, one gets it.
	mustAdd(t, o, letter("bb", StateHeld))
	var wg sync.WaitGroup
	won := make(chan struct{}, 20)
	for range 20 {
		wg.Go(func() {
			if err := o.SetState(context.Background(), "bb", StateHeld, StateSending); err == nil {
				won <- struct{}{}
			} else if !errors.Is(err, ErrWrongState) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("%d have it", len(won))
	}
}

func TestOutboxBounds(t *testing.T) {
	o := newOutbox(t, OutboxOptions{Max: 5, KeepContent: true})
	mustAdd(t, o, letter("held1", StateHeld))
	mustAdd(t, o, letter("unknown", StateInterrupted))
	for i := range 20 {
		l := letter(fmt.Sprintf("r%02d", i), StateRefused)
		l.Time = fmt.Sprintf("2026-01-02T03:05:%02d.000000Z", i)
		if _, err := o.Later(l); err != nil {
			t.Fatal(err)
		}
	}
	if got := ids(list(t, o)); !slices.Equal(got, []string{"r19", "r18", "r17", "unknown", "held1"}) {
		t.Errorf("%v", got)
	}
	for i := range 4 {
		mustAdd(t, o, letter(fmt.Sprint("held", i+2), StateHeld))
	}
	if err := o.Add(ctx(t), letter("held6", StateHeld)); !errors.Is(err, ErrFull) {
		t.Errorf("a sixth held letter: %v", err)
	}
	if _, err := o.Later(letter("r20", StateRefused)); err != nil {
		t.Fatal(err)
	}
	if got := ids(list(t, o)); len(got) != 5 || slices.ContainsFunc(got, func(id string) bool { return !strings.HasPrefix(id, "held") }) {
		t.Errorf("%v", got)
	}
	o.Reconfigure(OutboxOptions{Max: 6, KeepContent: false})
	mustAdd(t, o, letter("held6", StateHeld))
	if l, err := o.Get(ctx(t), "held6"); err != nil || l.Body != "" || l.Operation != nil {
		t.Errorf("%+v, %v", l, err)
	}
}

// Bodies are bounded in all, and one letter at a time.
func TestOutboxBytes(t *testing.T) {
	o := newOutbox(t, OutboxOptions{KeepContent: true})
	if err := o.do(ctx(t), func(w *work) error { return nil }); err != nil {
		t.Fatal(err)
	}
	o.maxContent = 200 << 10
	for i := range 10 {
		l := letter(fmt.Sprint("r", i), StateRefused)
		l.Body, l.Operation = strings.Repeat("é", maxBody), make([]byte, maxRefusedOp+1)
		if _, err := o.Later(l); err != nil {
			t.Fatal(err)
		}
	}
	if got := ids(list(t, o)); !slices.Equal(got, []string{"r9", "r8", "r7"}) {
		t.Errorf("%v", got)
	}
	if l, err := o.Get(ctx(t), "r9"); err != nil || len(l.Body) > maxRefusedBody+20 || !strings.HasSuffix(l.Body, "…[+2031616]") || l.Operation != nil {
		t.Errorf("%d bytes, %q, %v", len(l.Body), l.Body[len(l.Body)-20:], err)
	}
	big := letter("held", StateHeld)
	big.Body = strings.Repeat("x", 300<<10)
	if err := o.Add(ctx(t), big); !errors.Is(err, ErrFull) {
		t.Errorf("more than fits: %v", err)
	}
}

func TestExpire(t *testing.T) {
	o := newOutbox(t, OutboxOptions{Retain: 24 * time.Hour})
	now := time.Now()
	for _, s := range []State{StateHeld, StateRefused, StateInterrupted, StateApproved, StateRejected, StateSending} {
		for name, age := range map[string]time.Duration{"new": time.Hour, "old": 25 * time.Hour} {
			l := letter(name+string(s), s)
			l.Time = now.Add(-age).Format(time.RFC3339Nano)
			mustAdd(t, o, l)
		}
	}
	// A refusal that was repeated is as old as its last.
	again := letter("x", StateRefused)
	again.Digest, again.Time = "digest of oldrefused", now.Format(time.RFC3339Nano)
	if id, err := o.Later(again); err != nil || id != "oldrefused" {
		t.Fatal(id, err)
	}
	n, err := o.Expire(ctx(t), now)
	if err != nil || n != 4 {
		t.Errorf("%d, %v", n, err)
	}
	states := map[string]State{}
	for _, l := range list(t, o) {
		states[l.ID] = l.State
	}
	want := map[string]State{
		"newheld": StateHeld, "newrefused": StateRefused, "newinterrupted": StateInterrupted, "newapproved": StateApproved,
		"newrejected": StateRejected, "newsending": StateSending,
		"oldheld": StateExpired, "oldapproved": StateExpired, "oldsending": StateSending, "oldrefused": StateRefused,
	}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("\ngot  %v\nwant %v", states, want)
	}
	if err := o.SetState(ctx(t), "oldheld", StateHeld, StateApproved); !errors.Is(err, ErrWrongState) {
		t.Errorf("an expired letter can be approved: %v", err)
	}
	// Expired letters are seen for as long again.
	if n, err := o.Expire(ctx(t), now.Add(25*time.Hour)); err != nil || n != 8 {
		t.Errorf("%d, %v", n, err)
	}
	o.Reconfigure(OutboxOptions{Max: 1})
	if n, err := o.Expire(ctx(t), now.Add(25*time.Hour)); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	if got := ids(list(t, o)); !slices.Equal(got, []string{"newsending", "oldsending"}) {
		t.Errorf("%v", got)
	}
}

// Whatever is asked for in whatever order, the outbox is what a simple list
// would be.
func TestOutboxIsAList(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		path := filepath.Join(dir, fmt.Sprint(runs, ".db"))
		o, err := OpenOutbox(path, OutboxOptions{KeepContent: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { o.Close() }()
		type row struct {
			state   State
			count   int
			key     string
			touched bool // by a person: whether more is folded into it is open
		}
		model, next := map[string]row{}, 0
		anyID := func() string { return fmt.Sprint("l", rapid.IntRange(0, next).Draw(t, "id")) }
		state := rapid.SampledFrom([]State{StateHeld, StateRefused, StateInterrupted, StateApproved, StateRejected, StateExpired, StateSending, StateSent})
		c := context.Background()
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				id, s := anyID(), state.Draw(t, "state")
				_, exists := model[id]
				err := o.Add(c, Letter{ID: id, State: s, Body: id})
				if exists != errors.Is(err, ErrExists) || !exists && err != nil {
					t.Fatal(err)
				}
				if !exists {
					model[id] = row{s, 1, "", false}
					next++
				}
			},
			"later": func(t *rapid.T) {
				next++
				id, key := fmt.Sprint("f", next), rapid.SampledFrom([]string{"", "d", "e"}).Draw(t, "digest")
				may, must := map[string]bool{}, false
				for old, r := range model {
					if r.key == key && key != "" && r.state == StateRefused {
						may[old] = true
						must = must || !r.touched
					}
				}
				may[id] = !must
				got, err := o.Later(Letter{ID: id, Digest: key})
				if err != nil || !may[got] {
					t.Fatalf("told %s, want one of %v: %v", got, may, err)
				}
				r := model[got]
				model[got] = row{StateRefused, r.count + 1, key, r.touched}
				// What is folded depends on what is there, not on what is written.
				if rapid.Bool().Draw(t, "flush") {
					if err := o.Flush(c); err != nil {
						t.Fatal(err)
					}
				}
			},
			"set": func(t *rapid.T) {
				id, from, to := anyID(), state.Draw(t, "from"), state.Draw(t, "to")
				r, ok := model[id]
				err := o.SetState(c, id, from, to)
				switch {
				case from == StateSent:
					if err == nil {
						t.Fatal("out of sent")
					}
				case !ok:
					if !errors.Is(err, ErrNotFound) {
						t.Fatal(err)
					}
				case r.state != from:
					if !errors.Is(err, ErrWrongState) {
						t.Fatal(err)
					}
				default:
					if err != nil {
						t.Fatal(err)
					}
					model[id] = row{to, r.count, r.key, true}
				}
			},
			"purge": func(t *rapid.T) {
				id := ""
				if rapid.Bool().Draw(t, "one") {
					id = anyID()
				}
				want := 0
				for old, r := range model {
					if id == "" && !r.state.waits() || old == id && r.state != StateSending {
						delete(model, old)
						want++
					}
				}
				if n, err := o.Purge(c, id); n != want || err != nil && want > 0 {
					t.Fatalf("%d purged, want %d: %v", n, want, err)
				}
			},
			"restart": func(t *rapid.T) {
				if err := o.Close(); err != nil {
					t.Fatal(err)
				}
				var err error
				if o, err = OpenOutbox(path, OutboxOptions{KeepContent: true}); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				all, err := o.List(c)
				if err != nil || len(all) != len(model) {
					t.Fatalf("%d letters, want %d: %v", len(all), len(model), err)
				}
				for _, l := range all {
					if r := model[l.ID]; r.state != l.State || r.count != l.Count {
						t.Fatalf("%+v, want %+v", l, r)
					}
				}
				var waits int
				for _, r := range model {
					if r.state.waits() {
						waits++
					}
				}
				if err := o.do(c, func(w *work) error {
					real, err := count(w.ctx, w.tx)
					if err == nil && (real != w.counts || real.waiting != waits) {
						err = fmt.Errorf("counted %+v, kept %+v", real, w.counts)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

func BenchmarkOutboxAdd(b *testing.B) {
	o := openOutbox(b, filepath.Join(benchDir(b), "outbox.db"), OutboxOptions{KeepContent: true, Max: 1 << 30})
	for b.Loop() {
		if err := o.Add(context.Background(), letter(NewID(), StateHeld)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOutboxLaterFolded(b *testing.B) {
	o := openOutbox(b, filepath.Join(benchDir(b), "outbox.db"), OutboxOptions{KeepContent: true})
	l := letter("same", StateRefused)
	for b.Loop() {
		if _, err := o.Later(l); err != nil {
			b.Fatal(err)
		}
	}
}
