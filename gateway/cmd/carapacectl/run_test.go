package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/config"
	"github.com/carapace-gateway/carapace/gateway/journal"
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

// Every command can be found by its name, has help, and completes.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range commands() {
		if seen[c.name] || c.about == "" {
			t.Errorf("%s stands twice, or says nothing", c.name)
		}
		seen[c.name] = true
		found, rest, err := find(append(strings.Fields(c.name), "more"))
		if err != nil || found.name != c.name || len(rest) != 1 {
			t.Errorf("%s: found %q, %q, %v", c.name, found.name, rest, err)
		}
		var b bytes.Buffer
		c.help(&b)
		if !strings.HasPrefix(b.String(), "usage: carapacectl "+c.name) {
			t.Errorf("%s: %s", c.name, b.String())
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
		{usagef("send", "no %s", "text"), 64, "carapacectl: no text\ncarapacectl: hint: carapacectl help send\n"},
		{&failure{code: 1}, 1, ""},
		{fmt.Errorf("x: %w", &wire.Error{Code: wire.CodeHeld, Message: "a\nb", Data: &wire.ErrorData{ID: "1\n2", Hint: "c\nd"}}), 77,
			"carapacectl: held for review (1\\n2): a\\nb\ncarapacectl: hint: c\\nd\n"},
		{&wire.Error{Code: wire.CodeInternal, Message: "a\ncarapacectl: hint: forged"}, 70, "carapacectl: a\\ncarapacectl: hint: forged\n"},
		{errors.New("a\nb\x1b"), 1, "carapacectl: a\\nb\\x1b\n"},
		{errors.Join(&config.Error{File: "f", Line: 1, Text: "x"}, &config.Error{File: "f", Line: 2, Text: "y\nz"}), 1,
			"carapacectl: f:1: x\ncarapacectl: f:2: y\\nz\n"},
		{&wire.UnreachableError{Socket: "/s", Err: wire.ErrWrongServer}, 69, ""},
	} {
		var stderr strings.Builder
		e := &env{stderr: &stderr}
		if code := e.report(context.Background(), test.err); code != test.code || test.stderr != "" && stderr.String() != test.stderr {
			t.Errorf("%v: exit %d\n%s", test.err, code, stderr.String())
		}
	}
}

// What an error of the terminal's says is an error of ours.
func TestOutputFails(t *testing.T) {
	var stderr strings.Builder
	e := &env{args: []string{"help"}, stdout: full{}, stderr: &stderr}
	if code := run(context.Background(), e); code != wire.ExitFailed || !strings.Contains(stderr.String(), "no room") {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestRecordLine(t *testing.T) {
	uid := uint32(0)
	exit := 0
	for want, r := range map[string]journal.Event{
		"0 t start": {Time: "t", Kind: journal.KindStart},
		`3 t intent loopback outbound send command=send peers=a,b verdict=allow exit=0 uid=0`: {Seq: 3, Time: "t", Kind: journal.KindIntent,
			Channel: "loopback", Direction: "outbound", Verb: "send", Command: "send", Peers: []string{"a", "b"}, Verdict: "allow", ClientUID: &uid, Exit: &exit},
		`1 t admin rule="lock: verdict=allow" reason="a \"b\"\nc"`: {Seq: 1, Time: "t", Kind: journal.KindAdmin, Rule: "lock: verdict=allow", Reason: "a \"b\"\nc"},
	} {
		if got := recordLine(r); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestNeedsOwner(t *testing.T) {
	for line, want := range map[string]string{
		"queue show 7f3c":           "run: sudo -k carapacectl queue show 7f3c",
		"lock it; rm":               "run: sudo -k carapacectl lock …",
		"audit verify $(x)":         "run: sudo -k carapacectl audit verify …",
		"audit show --from=3 -n 'x": "run: sudo -k carapacectl audit show --from=3 -n …",
	} {
		e := &env{args: strings.Fields(line)}
		if f, ok := e.needsOwner().(*failure); !ok || f.code != wire.ExitNotPermitted || f.hint != want {
			t.Errorf("%s: %+v", line, f)
		}
	}
}
