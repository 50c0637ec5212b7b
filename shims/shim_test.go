package shims

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// heavy are packages that a shim must not link, and why. Measured as whole
// starts of a program that does nothing but import one: net/http alone costs
// half as much again as the start of an empty program.
var heavy = map[string]string{
	"net/http":      "half a start, and a second parser of untrusted text",
	"crypto/tls":    "the largest part of net/http",
	"crypto/x509":   "reads the system's certificates",
	"regexp":        "compiles at init wherever it is used",
	"text/template": "keeps every method of every type alive in the binary",
	"html/template": "the same",
	"os/exec":       "a shim starts nothing",
	"os/user":       "looks users up, through the C library where it can",
	"os/signal":     "starts a thread of its own; the default for a signal is what the tools do",
	"flag":          "the arguments are the tool's to read",
	"testing":       "test code in a program",
	"runtime/cgo":   "dynamic linking is a whole start more",
	"plugin":        "dynamic linking",
	"expvar":        "net/http",
}

// TestLinked lists what the program is made of, on every system, as it is
// built: without cgo.
func TestLinked(t *testing.T) {
	for _, system := range []string{"linux", "darwin"} {
		cmd := exec.Command("go", "list", "-deps", "./cmd/carapace-shim")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("list what the shim links: %v", err)
		}
		linked := strings.Fields(string(out))
		if !slices.Contains(linked, "github.com/carapace-gateway/carapace/gateway/wire") {
			t.Fatalf("not the list that was meant: %v", linked)
		}
		for _, p := range linked {
			if why, bad := heavy[p]; bad {
				t.Errorf("%s: the shim links %s: %s", system, p, why)
			}
			if first, _, more := strings.Cut(p, "/"); more && strings.Contains(first, ".") &&
				!strings.HasPrefix(p, "golang.org/x/sys/") && !strings.HasPrefix(p, "github.com/carapace-gateway/carapace/") {
				t.Errorf("%s: the shim links %s, from outside the standard library", system, p)
			}
		}
	}
}

// The words that arrive are the words that were typed.
func TestCallKeepsWords(t *testing.T) {
	imsg, _ := find("imsg")
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOf(rapid.String()).Draw(t, "args")
		var got struct {
			Channel string
			Argv    []string
		}
		raw := imsg.call(args)
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if got.Channel != "imessage" || !slices.Equal(got.Argv, append([]string{"imsg"}, args...)) {
			t.Fatalf("%q became %q", args, got.Argv)
		}
		if strings.Contains(string(raw), "\n") {
			t.Fatalf("%s is more than a line", raw)
		}
	})
}

func FuzzOpen(f *testing.F) {
	for _, s := range []string{"send\n--file\n/none", "--file", "--file\n--file\nx", "--\n--file\nx", "send\n--file\n~\n-h", "--file\n\n--file\n/dev/null"} {
		f.Add(s)
	}
	imsg, _ := find("imsg")
	f.Fuzz(func(t *testing.T, words string) {
		args := strings.Split(words, "\n")
		before := slices.Clone(args)
		file, after, err := imsg.open(args)
		if file != nil {
			defer file.Close()
			file.put(after, "file:1")
			for _, i := range file.where {
				if before[i-1] != "--file" || strings.HasPrefix(before[i], "-") || after[i] != "file:1" {
					t.Errorf("%q: word %d became %q", before, i, after[i])
				}
				after[i] = before[i]
			}
		}
		if !slices.Equal(args, before) {
			t.Errorf("the caller's words were changed: %q, then %q", before, args)
		}
		if err == nil && !slices.Equal(after, before) {
			t.Errorf("%q became %q", before, after)
		}
	})
}

func TestAbsolute(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, c := range []struct{ home, in, want string }{
		{"/home/a", "~", "/home/a"},
		{"/home/a", "~/x", "/home/a/x"},
		{"/home/a/", "~/x", "/home/a/x"},
		{"/home/a", "/x/../y", "/x/../y"},
		{"/home/a", "x", dir + "/x"},
		{"/home/a", "./x", dir + "/x"},
		{"/home/a", "~b/x", dir + "/~b/x"},
		{"/home/a", "x/~", dir + "/x/~"},
		{"", "~/x", dir + "/~/x"},
	} {
		t.Setenv("HOME", c.home)
		if got := absolute(c.in); got != c.want {
			t.Errorf("%q at home %q: got %q, want %q", c.in, c.home, got, c.want)
		}
	}
}
