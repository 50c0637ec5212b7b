package step

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// TestGoldenReceipts decodes every step of every receipt that was ever written,
// and demands that it says the same when it is written down again.
func TestGoldenReceipts(t *testing.T) {
	files, err := filepath.Glob("../plan/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden receipts: %v", err)
	}
	seen := make(map[string]bool)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := plan.ParseReceipt(text)
		if err != nil {
			t.Fatal(err)
		}
		decode := Decode(&platform.LinuxHost{OnPaper: true, FS: &platform.Files{Paper: true}})
		for _, e := range r.Steps {
			seen[e.Kind] = true
			s, err := decode(e.Kind, e.Data)
			if err != nil {
				t.Errorf("%s: %s: %v", name, e.Title, err)
				continue
			}
			if s.Kind() != e.Kind || s.Key() != e.Key || s.Title() != e.Title {
				t.Errorf("%s: %s %s %q came back as %s %s %q", name, e.Kind, e.Key, e.Title, s.Kind(), s.Key(), s.Title())
			}
			again, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if !same(t, e.Data, again) {
				t.Errorf("%s: %s: its data\n%s\ncame back as\n%s", name, e.Title, e.Data, again)
			}
			if m, ok := s.(plan.Rememberer); ok && len(e.Memory) > 0 {
				if err := m.Recall(e.Memory); err != nil {
					t.Errorf("%s: %s: %v", name, e.Title, err)
				}
			}
		}
	}
	for _, kind := range []string{"group", "user", "member", "dir", "file", "facts", "link", "spool", "tool", "reload", "service"} {
		if !seen[kind] {
			t.Errorf("no golden receipt has a step of the kind %s", kind)
		}
	}
}

func same(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}

func TestDecodeRefuses(t *testing.T) {
	decode := Decode(&platform.LinuxHost{})
	for _, c := range []struct{ kind, data, says string }{
		{"teleport", `{}`, "does not know"},
		{"dir", `{"path":"/a","surprise":1}`, "surprise"},
		{"dir", `{"path":"/a","mode":"9999"}`, "octal"},
		{"dir", `{"path":"/a","mode":"77777"}`, "octal"},
		{"dir", `{} {}`, "after its end"},
		{"dir", ``, "EOF"},
	} {
		if _, err := decode(c.kind, json.RawMessage(c.data)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s: got %v, want %q", c.kind, c.data, err, c.says)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, kind := range []string{"group", "user", "member", "dir", "file", "facts", "link", "spool", "tool", "reload", "service", "x"} {
		f.Add(kind, []byte(`{"path":"/a","mode":"0755","name":"n"}`))
		f.Add(kind, []byte(`{}`))
	}
	decode := Decode(&platform.LinuxHost{})
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		s, err := decode(kind, data)
		if err != nil {
			return
		}
		if s.Kind() != kind {
			t.Errorf("kind %q came back as %q", kind, s.Kind())
		}
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
	})
}
