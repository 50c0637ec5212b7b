package probe

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func example() Report {
	return Report{OS: Linux, Client: "alice", Checks: []Check{
		{"file.state", "the client cannot look into the state of the gateway", Pass, Critical, NeedsSelf, "EACCES for 2 attempts", ""},
		{"privilege.admin", "the client cannot become root with a password", Warn, High, NeedsSelf, "alice is in sudo", "run the agent as another user"},
		{"live.ping", "the client is answered by the gateway", Unknown, Critical, NeedsSelf, "the gateway is not running", "sudo -k systemctl start carapace.service"},
		{"unit.write", "the client cannot change a service definition", Fail, Critical, NeedsSelf, "opened \x1b[31m/x\u202e\n for writing", "sudo chmod 644 /x"},
		{"stranger.connect", "a stranger cannot reach the gateway", Unknown, Info, NeedsRoot, "only root can try this", remedyRoot},
	}}
}

// TestWrite holds what a person sees, and what a script reads, to golden
// files: neither may change unseen.
func TestWrite(t *testing.T) {
	var plain, colour bytes.Buffer
	r := example()
	if err := r.Write(&plain, false); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(&colour, true); err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsAny(plain.Bytes(), "\x1b\u202e") {
		t.Error("what was foreign reached the terminal raw")
	}
	object, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"report.txt": plain.Bytes(), "report-colour.txt": colour.Bytes(), "report.json": append(object, '\n')} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestExit(t *testing.T) {
	check := func(c Class, s Severity) Check { return Check{Class: c, Severity: s} }
	for _, c := range []struct {
		name   string
		checks []Check
		want   int
	}{
		{"nothing was tried", nil, 2},
		{"all passed", []Check{check(Pass, Critical), check(Pass, Info)}, 0},
		{"a warning", []Check{check(Warn, Critical)}, 0},
		{"a failure, however small", []Check{check(Pass, Critical), check(Fail, Info)}, 1},
		{"a critical unknown", []Check{check(Unknown, Critical), check(Pass, Critical)}, 2},
		{"a lesser unknown", []Check{check(Unknown, High), check(Unknown, Info)}, 0},
		{"a failure and an unknown", []Check{check(Unknown, Critical), check(Fail, Medium)}, 1},
		{"a class from the future", []Check{check("perhaps", Critical)}, 2},
	} {
		if got := (Report{Checks: c.checks}).Exit(); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestOutcome is the rule of the package: only the exact errno with a control
// that succeeded passes.
func TestOutcome(t *testing.T) {
	good := map[string]result{doOpen: {}, doRemove: {Errno: "ENOTDIR"}, doWrite: {}, doSignal: {}}
	for _, c := range []struct {
		name    string
		op      op
		result  result
		control map[string]result
		absent  bool
		want    Class
	}{
		{"refused", op{Do: doOpen, Path: "/x"}, result{Errno: "EACCES"}, good, false, Pass},
		{"opened", op{Do: doOpen, Path: "/x"}, result{}, good, false, Fail},
		{"opened, and the control is broken", op{Do: doOpen, Path: "/x"}, result{}, nil, false, Fail},
		{"missing", op{Do: doOpen, Path: "/x"}, result{Errno: "ENOENT"}, good, false, Unknown},
		{"refused by something else", op{Do: doOpen, Path: "/x"}, result{Errno: "EPERM"}, good, false, Unknown},
		{"read-only file system", op{Do: doWrite, Path: "/x"}, result{Errno: "EROFS"}, good, false, Unknown},
		{"no errno at all", op{Do: doOpen, Path: "/x"}, result{Errno: "?", Text: "boom"}, good, false, Unknown},
		{"refused, and so was the control", op{Do: doOpen, Path: "/x"}, result{Errno: "EACCES"}, map[string]result{doOpen: {Errno: "EACCES"}}, false, Unknown},
		{"refused, and the control is of another kind", op{Do: doOpen, Path: "/x"}, result{Errno: "EACCES"}, map[string]result{doWrite: {}}, false, Unknown},
		{"refused, but nothing is there", op{Do: doOpen, Path: "/x"}, result{Errno: "EACCES"}, good, true, Unknown},
		{"a running program could be written", op{Do: doWrite, Path: "/x"}, result{Errno: "ETXTBSY"}, good, false, Fail},
		{"a file could be removed", op{Do: doRemove, Path: "/x"}, result{Errno: "ENOTDIR"}, good, false, Fail},
		{"a file could not be removed", op{Do: doRemove, Path: "/x"}, result{Errno: "EACCES"}, good, false, Pass},
		{"the control of removing removed", op{Do: doRemove, Path: "/x"}, result{Errno: "EACCES"}, map[string]result{doRemove: {}}, false, Unknown},
	} {
		a := attempts{who: ident{name: "alice", uid: 1000}, control: c.control, ops: []op{c.op}, results: []result{c.result}}
		if c.absent {
			a.absent = map[string]string{c.op.Path: "not there"}
		}
		if got := a.outcome("cure", "EACCES"); got.class != c.want || got.evidence == "" {
			t.Errorf("%s: %s (%s), want %s", c.name, got.class, got.evidence, c.want)
		}
	}
	if got := (attempts{}).outcome("cure", "EACCES"); got.class != Unknown {
		t.Errorf("no attempt at all: %s", got.class)
	}
}

// TestOutcomeIsClosed says the same as a property: whatever a child answers, a
// pass needs every attempt refused with the named errno.
func TestOutcomeIsClosed(t *testing.T) {
	errnos := rapid.SampledFrom([]string{"", "EACCES", "EPERM", "ENOENT", "ENOTDIR", "ETXTBSY", "?"})
	kinds := rapid.SampledFrom([]string{doOpen, doWrite, doRemove, doCreate, doConnect, doSignal})
	rapid.Check(t, func(t *rapid.T) {
		a := attempts{control: map[string]result{}}
		clean := true
		for range rapid.IntRange(0, 5).Draw(t, "attempts") {
			do, errno, control := kinds.Draw(t, "kind"), errnos.Draw(t, "errno"), errnos.Draw(t, "control")
			a.ops = append(a.ops, op{Do: do, Path: "/x"})
			a.results = append(a.results, result{Errno: errno})
			if _, ok := a.control[do]; !ok {
				a.control[do] = result{Errno: control}
			}
			clean = clean && errno == "EACCES" && controlled(do, a.control)
		}
		if got := a.outcome("cure", "EACCES"); (got.class == Pass) != (clean && len(a.ops) > 0) {
			t.Fatalf("%s for %+v", got.class, a)
		}
	})
}

func TestFreeRules(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []rule
		class      Class
	}{
		{"none", "User alice may run the following commands on host:\n    (ALL : ALL) ALL\n", nil, Pass},
		{"not in the file", "User alice is not allowed to run sudo on host.\n", nil, Pass},
		{"everything", "    (ALL : ALL) NOPASSWD: ALL\n", []rule{{"ALL : ALL", "ALL"}}, Fail},
		{"tags hold", "    (root) NOPASSWD: /bin/a, /bin/b, PASSWD: /bin/c\n", []rule{{"root", "/bin/a"}, {"root", "/bin/b"}}, Warn},
		{"several tags", "    (root) NOEXEC: NOPASSWD: /usr/bin/less /var/log/syslog\n", []rule{{"root", "/usr/bin/less /var/log/syslog"}}, Fail},
		{"only as somebody harmless", "    (bob) NOPASSWD: ALL\n", []rule{{"bob", "ALL"}}, Warn},
		{"as the service user", "    (bob, carapace) NOPASSWD: ALL\n", []rule{{"bob, carapace", "ALL"}}, Fail},
		{"by number", "    (#0) NOPASSWD: /bin/sh\n", []rule{{"#0", "/bin/sh"}}, Fail},
		{"a pattern", "    (root) NOPASSWD: /opt/tools/*\n", []rule{{"root", "/opt/tools/*"}}, Fail},
		{"a folder", "    (root) NOPASSWD: /opt/tools/\n", []rule{{"root", "/opt/tools/"}}, Fail},
		{"a denial", "    (root) NOPASSWD: !/bin/sh, /sbin/reboot\n", []rule{{"root", "/sbin/reboot"}}, Warn},
		{"a default", "Matching Defaults entries for alice on host:\n    env_reset, !authenticate\n", []rule{{"ALL", "ALL"}}, Fail},
	} {
		got := freeRules(c.text)
		if d := cmp.Diff(c.want, got, cmp.AllowUnexported(rule{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
		v := &verifier{t: Target{ServiceUser: "carapace"}}
		if o := v.judgeRules(got); o.class != c.class {
			t.Errorf("%s: %s, want %s: %s", c.name, o.class, c.class, o.evidence)
		}
	}
}

func TestSaid(t *testing.T) {
	got := said("a\n\tb \x1b[31m" + strings.Repeat("ü", maxSaid))
	if strings.ContainsAny(got, "\n\t\x1b") || len(got) > maxSaid+len("…") || !strings.HasPrefix(got, "a b ") {
		t.Errorf("%q", got)
	}
}

func FuzzFreeRules(f *testing.F) {
	f.Add("    (ALL : ALL) NOPASSWD: ALL\n")
	f.Add("    (root) NOPASSWD: /bin/a, PASSWD: /bin/b\n    !authenticate\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range freeRules(text) {
			if r.command == "" || strings.Contains(r.String(), "\n") {
				t.Fatalf("%q", r)
			}
		}
	})
}

// FuzzRequest feeds the child's reader: what it takes says the same when it is
// written again.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"protocol":1,"control":"/run/x","program":"/bin/x","ops":[{"do":"open","path":"/etc/shadow"}]}`))
	f.Add([]byte(`{"protocol":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := readRequest(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		req2, err := readRequest(bytes.NewReader(again))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(req, req2); d != "" {
			t.Fatal(d)
		}
	})
}
