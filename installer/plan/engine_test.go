package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// world is a machine of named cells. Each change counts; at the limit the
// process "dies": nothing after it happens, in memory or on disk.
type world struct {
	cells   map[string]string
	receipt []byte
	actions int
	limit   int // 0: lives for ever
}

type killed struct{}

func (w *world) act() {
	w.actions++
	if w.limit > 0 && w.actions == w.limit {
		panic(killed{})
	}
}

func (w *world) Load() (*Receipt, error) {
	if w.receipt == nil {
		return nil, nil
	}
	return ParseReceipt(w.receipt)
}

func (w *world) Save(r *Receipt) error {
	data, err := MarshalReceipt(r)
	if err != nil {
		return err
	}
	w.receipt = data
	w.act()
	return nil
}

func (w *world) Remove() error {
	w.receipt = nil
	w.act()
	return nil
}

// cell is a step that sets one cell, in two actions, and remembers what was
// there. An id is settled before the first of them.
type cell struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Keeps bool   `json:"keeps,omitempty"`

	w   *world
	mem struct {
		Was    *string `json:"was,omitempty"`
		Ticket int     `json:"ticket"`
	}
	recalled bool
}

func (c *cell) Kind() string  { return "cell" }
func (c *cell) Key() string   { return c.Name }
func (c *cell) Title() string { return "set " + c.Name }
func (c *cell) Memory() any   { return c.mem }
func (c *cell) Recall(data json.RawMessage) error {
	c.recalled = true
	return json.Unmarshal(data, &c.mem)
}

func (c *cell) Plan(context.Context) (Change, error) {
	have, ok := c.w.cells[c.Name]
	switch {
	case !ok:
		return Make, nil
	case c.recalled:
		return Make, nil
	case have == "in the way":
		return "", errors.New("something is in the way")
	case have == c.Value:
		return Adopt, nil
	}
	c.mem.Was = &have
	return Alter, nil
}

func (c *cell) Prepare(context.Context) error {
	c.mem.Ticket++
	return nil
}

func (c *cell) Apply(context.Context) error {
	if c.mem.Ticket == 0 {
		return errors.New("applied before it was prepared")
	}
	if c.w.cells[c.Name] == c.Value {
		return nil
	}
	c.w.cells[c.Name] = "half"
	c.w.act()
	c.w.cells[c.Name] = c.Value
	c.w.act()
	return nil
}

func (c *cell) Verify(context.Context) error {
	if have := c.w.cells[c.Name]; have != c.Value {
		return fmt.Errorf("%s is %q and not %q", c.Name, have, c.Value)
	}
	return nil
}

func (c *cell) Revert(context.Context) error {
	if _, ok := c.w.cells[c.Name]; !ok && c.mem.Was == nil {
		return nil
	}
	if c.mem.Was != nil {
		c.w.cells[c.Name] = *c.mem.Was
	} else {
		delete(c.w.cells, c.Name)
	}
	c.w.act()
	return nil
}

func (c *cell) Keep(context.Context) (string, error) {
	if !c.Keeps || c.mem.Was != nil {
		return "", nil
	}
	return c.Name, nil
}

func (w *world) engine() *Engine {
	return &Engine{Store: w, Decode: func(kind string, data json.RawMessage) (Step, error) {
		if kind != "cell" {
			return nil, fmt.Errorf("a step of the kind %q", kind)
		}
		c := &cell{w: w}
		return c, json.Unmarshal(data, c)
	}}
}

// plan is what a test installs: names and values.
type spec struct{ name, value string }

func (w *world) steps(specs []spec) []Step {
	var steps []Step
	for _, s := range specs {
		steps = append(steps, &cell{Name: s.name, Value: s.value, w: w})
	}
	return steps
}

// install and uninstall are the two commands; alive is false when the process
// died in them.
func (w *world) install(specs []spec) (err error, alive bool) {
	defer w.catch(&alive)
	alive = true
	old, err := w.Load()
	if err != nil {
		return err, true
	}
	e := w.engine()
	d, err := e.Draft(context.Background(), Header{Version: "1"}, w.steps(specs), old)
	if err != nil {
		return err, true
	}
	return e.Apply(context.Background(), d), true
}

func (w *world) uninstall() (err error, alive bool) {
	defer w.catch(&alive)
	alive = true
	r, err := w.Load()
	if err != nil || r == nil {
		return err, true
	}
	_, err = w.engine().Revert(context.Background(), r, true)
	return err, true
}

func (w *world) catch(alive *bool) {
	if p := recover(); p != nil {
		if _, ok := p.(killed); !ok {
			panic(p)
		}
		*alive = false
		w.limit = 0
	}
}

func drawWorld(t *rapid.T) (before map[string]string, specs, later []spec) {
	before = make(map[string]string)
	n := rapid.IntRange(1, 5).Draw(t, "steps")
	for i := range n {
		s := spec{name: fmt.Sprintf("c%d", i), value: "new"}
		specs = append(specs, s)
		switch rapid.IntRange(0, 2).Draw(t, "before") {
		case 1:
			before[s.name] = "old"
		case 2:
			before[s.name] = "new"
		}
		if rapid.Bool().Draw(t, "still wanted") {
			if rapid.Bool().Draw(t, "changed") {
				s.value = "newer"
			}
			later = append(later, s)
		}
	}
	later = append(later, spec{"extra", "new"})
	before["foreign"] = "stays"
	return before, specs, later
}

// TestKill kills an install after each of its actions and then installs or
// uninstalls: the end is always that of an undisturbed run.
func TestKill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, specs, later := drawWorld(t)
		undisturbed := &world{cells: maps.Clone(before)}
		if err, _ := undisturbed.install(specs); err != nil {
			t.Fatal(err)
		}
		total := undisturbed.actions
		second := &world{cells: maps.Clone(undisturbed.cells), receipt: undisturbed.receipt}
		if err, _ := second.install(specs); err != nil || second.actions != 0 {
			t.Fatalf("a second install took %d actions, error %v", second.actions, err)
		}
		changed := &world{cells: maps.Clone(before)}
		if err, _ := changed.install(later); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= total; n++ {
			for _, then := range []string{"install", "uninstall", "install later", "kill again"} {
				w := &world{cells: maps.Clone(before), limit: n}
				if _, alive := w.install(specs); alive {
					t.Fatalf("action %d of %d did not kill", n, total)
				}
				want := undisturbed.cells
				var err error
				switch then {
				case "install":
					err, _ = w.install(specs)
				case "install later":
					err, _ = w.install(later)
					want = changed.cells
				case "uninstall":
					err, _ = w.uninstall()
					want = before
				case "kill again":
					w.actions, w.limit = 0, rapid.IntRange(1, total).Draw(t, "second kill")
					w.uninstall()
					w.limit = 0
					err, _ = w.install(specs)
				}
				if err != nil {
					t.Fatalf("kill after %d, then %s: %v", n, then, err)
				}
				if d := cmp.Diff(want, w.cells); d != "" {
					t.Fatalf("kill after %d, then %s (-want +got):\n%s", n, then, d)
				}
				if then == "uninstall" {
					if w.receipt != nil {
						t.Fatalf("kill after %d, then uninstall: the receipt is still there", n)
					}
					continue
				}
				if err, _ := w.uninstall(); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(before, w.cells); d != "" {
					t.Fatalf("kill after %d, then %s, then uninstall (-want +got):\n%s", n, then, d)
				}
			}
		}
	})
}

// TestKillUninstall does the same to an uninstall.
func TestKillUninstall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, specs, _ := drawWorld(t)
		for n := 1; ; n++ {
			w := &world{cells: maps.Clone(before)}
			if err, _ := w.install(specs); err != nil {
				t.Fatal(err)
			}
			installed := maps.Clone(w.cells)
			w.actions, w.limit = 0, n
			err, alive := w.uninstall()
			if alive {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if rapid.Bool().Draw(t, "install instead") {
				if err, _ := w.install(specs); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(installed, w.cells); d != "" {
					t.Fatalf("uninstall killed after %d, then install (-want +got):\n%s", n, d)
				}
			}
			if err, _ := w.uninstall(); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, w.cells); d != "" {
				t.Fatalf("uninstall killed after %d, then uninstall (-want +got):\n%s", n, d)
			}
		}
	})
}

func TestConflictsAllAtOnceBeforeAnyChange(t *testing.T) {
	w := &world{cells: map[string]string{"a": "in the way", "c": "in the way"}}
	err, _ := w.install([]spec{{"a", "new"}, {"b", "new"}, {"c", "new"}})
	var conflict *ConflictError
	if !errors.As(err, &conflict) || len(conflict.Conflicts) != 2 {
		t.Fatalf("got %v, want two conflicts", err)
	}
	if w.actions != 0 || len(w.cells) != 2 {
		t.Errorf("something was changed: %v", w.cells)
	}
}

func TestAlteredValueOfSomebodyElseIsKept(t *testing.T) {
	w := &world{cells: map[string]string{"a": "old"}}
	if err, _ := w.install([]spec{{"a", "new"}}); err != nil {
		t.Fatal(err)
	}
	if err, _ := w.install([]spec{{"a", "newer"}}); err != nil {
		t.Fatal(err)
	}
	if err, _ := w.uninstall(); err != nil {
		t.Fatal(err)
	}
	if got := w.cells["a"]; got != "old" {
		t.Errorf("after two installs and an uninstall the value is %q, want the first one", got)
	}
}

func TestUnknownKindTouchesNothing(t *testing.T) {
	w := &world{cells: map[string]string{}}
	if err, _ := w.install([]spec{{"a", "new"}, {"b", "new"}}); err != nil {
		t.Fatal(err)
	}
	r, err := w.Load()
	if err != nil {
		t.Fatal(err)
	}
	r.Steps[0].Kind = "teleport"
	w.actions = 0
	if _, err := w.engine().Revert(context.Background(), r, true); !errors.Is(err, ErrReceipt) {
		t.Errorf("got %v, want ErrReceipt", err)
	}
	if w.actions != 0 {
		t.Errorf("%d actions were taken", w.actions)
	}
}

type stubborn struct{ cell }

func (s *stubborn) Revert(context.Context) error { return errors.New("will not go") }

func TestPartialUninstallNamesAndKeepsTheRest(t *testing.T) {
	w := &world{cells: map[string]string{}}
	if err, _ := w.install([]spec{{"a", "new"}, {"b", "new"}, {"c", "new"}}); err != nil {
		t.Fatal(err)
	}
	e := w.engine()
	decode := e.Decode
	e.Decode = func(kind string, data json.RawMessage) (Step, error) {
		s, err := decode(kind, data)
		if err == nil && s.Key() == "b" {
			return &stubborn{*s.(*cell)}, nil
		}
		return s, err
	}
	r, err := w.Load()
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Revert(context.Background(), r, true)
	var partial *PartialError
	if !errors.As(err, &partial) || len(partial.Left) != 1 || partial.Left[0].Title != "set b" {
		t.Fatalf("got %v, want b left", err)
	}
	if d := cmp.Diff(map[string]string{"b": "new"}, w.cells); d != "" {
		t.Errorf("cells (-want +got):\n%s", d)
	}
	if err, _ := w.uninstall(); err != nil || len(w.cells) != 0 || w.receipt != nil {
		t.Errorf("the second uninstall: %v, cells %v", err, w.cells)
	}
}

func TestKept(t *testing.T) {
	w := &world{cells: map[string]string{}}
	install := func() {
		t.Helper()
		old, err := w.Load()
		if err != nil {
			t.Fatal(err)
		}
		e := w.engine()
		d, err := e.Draft(context.Background(), Header{}, []Step{
			&cell{Name: "a", Value: "new", Keeps: true, w: w}, &cell{Name: "b", Value: "new", w: w},
		}, old)
		if err == nil {
			err = e.Apply(context.Background(), d)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	revert := func(purge bool) []string {
		t.Helper()
		r, err := w.Load()
		if err != nil {
			t.Fatal(err)
		}
		kept, err := w.engine().Revert(context.Background(), r, purge)
		if err != nil {
			t.Fatal(err)
		}
		return kept
	}
	install()
	if d := cmp.Diff([]string{"a"}, revert(false)); d != "" {
		t.Errorf("kept (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]string{"a": "new"}, w.cells); d != "" {
		t.Errorf("cells (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"a"}, revert(false)); d != "" {
		t.Errorf("kept the second time (-want +got):\n%s", d)
	}
	install()
	revert(false)
	if revert(true); len(w.cells) != 0 || w.receipt != nil {
		t.Errorf("after a purge there is %v", w.cells)
	}
}

func TestBetweenStops(t *testing.T) {
	w := &world{cells: map[string]string{}}
	e := w.engine()
	n := 0
	e.Between = func(context.Context) error {
		if n++; n == 2 {
			return ErrStopped
		}
		return nil
	}
	specs := []spec{{"a", "new"}, {"b", "new"}, {"c", "new"}}
	d, err := e.Draft(context.Background(), Header{}, w.steps(specs), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(context.Background(), d); !errors.Is(err, ErrStopped) {
		t.Fatalf("got %v", err)
	}
	if d := cmp.Diff(map[string]string{"a": "new", "b": "new"}, w.cells); d != "" {
		t.Errorf("cells (-want +got):\n%s", d)
	}
	if err, _ := w.install(specs); err != nil || len(w.cells) != 3 {
		t.Errorf("going on: %v, cells %v", err, w.cells)
	}
}
