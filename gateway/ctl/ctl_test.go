package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		args  string
		words []string
		json  bool
		n     int
		bad   bool
	}{
		{"", nil, false, 0, false},
		{"a b", []string{"a", "b"}, false, 0, false},
		{"--json a", []string{"a"}, true, 0, false},
		{"a --json", []string{"a"}, true, 0, false},
		{"a -n 3 b --json c", []string{"a", "b", "c"}, true, 3, false},
		{"a -n=3", []string{"a"}, false, 3, false},
		{"-- --json", []string{"--json"}, false, 0, false},
		{"a -- --json -n", []string{"a", "--json", "-n"}, false, 0, false},
		{"a --", []string{"a"}, false, 0, false},
		{"a - b", []string{"a", "-", "b"}, false, 0, false},
		{"--jsn", nil, false, 0, true},
		{"a -n", nil, false, 0, true},
		{"a -n x", nil, false, 0, true},
	} {
		fs := flag.NewFlagSet("x", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		asJSON, n := fs.Bool("json", false, ""), fs.Int("n", 0, "")
		words, err := parse(fs, strings.Fields(test.args))
		if (err != nil) != test.bad {
			t.Errorf("%q: %v", test.args, err)
		} else if err == nil && (!reflect.DeepEqual(words, test.words) || *asJSON != test.json || *n != test.n) {
			t.Errorf("%q: %q, json %v, n %d", test.args, words, *asJSON, *n)
		}
	}
}

func TestReport(t *testing.T) {
	for _, test := range []struct {
		err    error
		code   int
		stderr string
	}{
		{nil, 0, ""},
		{Usagef("send", "no %s", "text"), 64, "carapacectl: no text\ncarapacectl: hint: carapacectl help send\n"},
		{&Failure{Code: 1}, 1, ""},
		{fmt.Errorf("x: %w", &wire.Error{Code: wire.CodeHeld, Message: "a\nb", Data: &wire.ErrorData{ID: "1\n2", Hint: "c\nd"}}), 77,
			"carapacectl: held for review (1\\n2): a\\nb\ncarapacectl: hint: c\\nd\n"},
		{&wire.Error{Code: wire.CodeInternal, Message: "a\ncarapacectl: hint: forged"}, 70, "carapacectl: a\\ncarapacectl: hint: forged\n"},
		{errors.New("a\nb\x1b"), 1, "carapacectl: a\\nb\\x1b\n"},
		{&Failure{1, []string{"f:1: x", "f:2: y\nz"}, "do"}, 1, "carapacectl: f:1: x\ncarapacectl: f:2: y\\nz\ncarapacectl: hint: do\n"},
		{&wire.UnreachableError{Socket: "/s", Err: wire.ErrWrongServer}, 69, ""},
	} {
		var stderr strings.Builder
		e := &Env{Stderr: &stderr}
		if code := e.report(context.Background(), test.err); code != test.code || test.stderr != "" && stderr.String() != test.stderr {
			t.Errorf("%v: exit %d\n%s", test.err, code, stderr.String())
		}
	}
}

// What an error of the terminal's says is an error of ours.
func TestOutputFails(t *testing.T) {
	var stderr strings.Builder
	e := &Env{Args: []string{"help"}, Stdout: full{}, Stderr: &stderr}
	if code := Run(context.Background(), e, nil); code != wire.ExitFailed || !strings.Contains(stderr.String(), "no room") {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestNeedsOwner(t *testing.T) {
	for line, want := range map[string]string{
		"queue show 7f3c":           "run: sudo -k carapacectl queue show 7f3c",
		"lock it; rm":               "run: sudo -k carapacectl lock …",
		"audit verify $(x)":         "run: sudo -k carapacectl audit verify …",
		"audit show --from=3 -n 'x": "run: sudo -k carapacectl audit show --from=3 -n …",
	} {
		e := &Env{Args: strings.Fields(line)}
		if f, ok := e.NeedsOwner().(*Failure); !ok || f.Code != wire.ExitNotPermitted || f.Hint != want {
			t.Errorf("%s: %+v", line, f)
		}
	}
}
