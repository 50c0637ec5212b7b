package offline

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/journal"
)

func ask(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err strings.Builder
	code = Run(context.Background(), args, strings.NewReader("from stdin"), &out, &err, os.Geteuid())
	return code, out.String(), err.String()
}

// A real log holds until one byte of it is another.
func TestAuditVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	log, _, err := journal.Open(dir, journal.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Record(t.Context(), journal.Event{Kind: journal.KindAdmin, Reason: "something to change"}); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr := ask(t, "audit", "verify", dir); code != 0 || !strings.HasPrefix(out, "ok: 3 records, head ") {
		t.Fatalf("exit %d: %s%s", code, out, stderr)
	}
	path := filepath.Join(dir, "entries")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), "something", "somethink", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := ask(t, "audit", "verify", dir)
	if code != 1 || out != "" || !strings.HasPrefix(stderr, "carapacectl: ") || !strings.Contains(stderr, "1") {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	if code, out, _ := ask(t, "audit", "verify", dir, "--json"); code != 1 || !strings.HasPrefix(out, `{"ok":false,`) {
		t.Errorf("exit %d: %s", code, out)
	}
}

const policyText = `version: 1
channels:
  loopback:
    enabled: true
    outbound: {allow: [echo]}
    inbound: {allow: [echo]}
`

func TestExplain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(policyText), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args string
		code int
		want string // part of what is printed, on either stream
	}{
		"allowed":           {"--channel loopback --to echo --text -", 0, "allow: permitted"},
		"refused":           {"--channel loopback --to bob --text x", 0, "deny: recipient not on the list"},
		"reserved":          {"--channel loopback --to verify-ok --text x", 0, "allow: "},
		"reserved, refused": {"--channel loopback --to verify-stranger --text x", 0, "deny: "},
		"inbound":           {"--channel loopback --direction inbound --to echo --text x", 0, "allow: permitted"},
		"dropped":           {"--channel loopback --direction inbound --to bob --text x", 0, "drop: sender not on the list"},
		"no text":           {"--channel loopback --to echo", 64, "to and text are required"},
		"no such peer":      {"--channel loopback --direction inbound --to +++ --text x", 64, "--to: "},
	} {
		code, out, stderr := ask(t, append([]string{"policy", "explain", "--config", file}, strings.Fields(test.args)...)...)
		if code != test.code || !strings.Contains(out+stderr, test.want) {
			t.Errorf("%s: exit %d: %s%s", name, code, out, stderr)
		}
	}
}

// A limit is never a reason here, however often one asks: nothing is spent.
func TestExplainSpendsNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(policyText+"rate: {per_peer: {requests: 1, per: 60s}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, out, stderr := ask(t, "policy", "explain", "--config", file, "--channel", "loopback", "--to", "echo", "--text", "x"); !strings.HasPrefix(out, "allow") {
			t.Fatal(out, stderr)
		}
	}
}
