package templates

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func linux() Values {
	return Values{
		Prefix: "/usr/local/carapace", ServiceUser: "carapace", ServiceGroup: "carapace", ClientGroup: "carapace-clients",
		Config: "/etc/carapace/config.yaml", State: "/var/lib/carapace", Run: "/var/run/carapace", Spool: "/var/spool/carapace", Home: "/var/lib/carapace-home",
	}
}

func macos() Values {
	v := linux()
	v.Config = "/Library/Application Support/Carapace/config.yaml"
	v.State = "/var/db/carapace"
	v.Logs = "/Library/Logs/Carapace"
	return v
}

func network(v Values) Values {
	v.Network = true
	return v
}

// rendered is every file there is, by the name of its golden file.
func rendered(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	put := func(name string, b []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out[name] = b
	}
	for _, name := range []string{UnitGateway, UnitRundir} {
		b, err := Systemd(name, linux())
		put(name, b, err)
	}
	b, err := Systemd(UnitGateway, network(linux()))
	put("network-"+UnitGateway, b, err)
	for _, name := range []string{PlistGateway, PlistRundir} {
		b, err := Launchd(name, macos())
		put(name, b, err)
	}
	b, err = Profile(Values{Prefix: "/usr/local/carapace"})
	put("carapace.sh", b, err)
	return out
}

func TestGolden(t *testing.T) {
	for name, got := range rendered(t) {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s differs from its golden file (-want +got):\n%s", name, d)
		}
	}
}

// TestPlist reads the property lists with an XML parser, strictly, and holds
// every key against the values it must have.
func TestPlist(t *testing.T) {
	type dict = map[string]any
	limits := dict{"Core": "0", "NumberOfFiles": "8192"}
	env := dict{"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
	for name, want := range map[string]dict{
		PlistGateway: {
			"Label": "ai.carapace.gateway",
			"ProgramArguments": []any{"/usr/local/carapace/libexec/carapaced",
				"--config", "/Library/Application Support/Carapace/config.yaml", "--state", "/var/db/carapace",
				"--run", "/var/run/carapace", "--spool", "/var/spool/carapace"},
			"UserName": "carapace", "GroupName": "carapace", "InitGroups": true, "Umask": "63",
			"WorkingDirectory": "/", "EnvironmentVariables": env, "RunAtLoad": true, "KeepAlive": true,
			"ThrottleInterval": "10", "ExitTimeOut": "20", "ProcessType": "Interactive",
			"StandardOutPath": "/Library/Logs/Carapace/gateway.log", "StandardErrorPath": "/Library/Logs/Carapace/gateway.log",
			"SoftResourceLimits": limits, "HardResourceLimits": limits,
		},
		PlistRundir: {
			"Label":            "ai.carapace.rundir",
			"ProgramArguments": []any{"/usr/local/carapace/bin/carapace-setup", "rundir"},
			"UserName":         "root", "GroupName": "wheel", "Umask": "63", "WorkingDirectory": "/",
			"EnvironmentVariables": env, "RunAtLoad": true, "HardResourceLimits": dict{"Core": "0"},
		},
	} {
		b, err := Launchd(name, macos())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, []byte("<?xml ")) {
			t.Errorf("%s: something stands before the XML declaration", name)
		}
		got, err := readPlist(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// readPlist is the smallest reader of a property list that can tell a broken
// one: integers stay text.
func readPlist(b []byte) (map[string]any, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	var value func(xml.StartElement) (any, error)
	next := func() (xml.Token, error) {
		for {
			t, err := d.Token()
			if err != nil {
				return nil, err
			}
			switch t := t.(type) {
			case xml.StartElement, xml.EndElement:
				return t, nil
			case xml.CharData:
				if len(bytes.TrimSpace(t)) > 0 {
					return nil, errors.New("stray text " + string(t))
				}
			}
		}
	}
	text := func(s xml.StartElement) (string, error) {
		var out string
		return out, d.DecodeElement(&out, &s)
	}
	value = func(s xml.StartElement) (any, error) {
		switch s.Name.Local {
		case "string", "integer":
			return text(s)
		case "true", "false":
			_, err := text(s)
			return s.Name.Local == "true", err
		case "array":
			var out []any
			for {
				t, err := next()
				if err != nil {
					return nil, err
				}
				e, ok := t.(xml.StartElement)
				if !ok {
					return out, nil
				}
				v, err := value(e)
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
		case "dict":
			out := map[string]any{}
			for {
				t, err := next()
				if err != nil {
					return nil, err
				}
				k, ok := t.(xml.StartElement)
				if !ok {
					return out, nil
				}
				if k.Name.Local != "key" {
					return nil, errors.New("a dict without a key")
				}
				key, err := text(k)
				if err != nil {
					return nil, err
				}
				t, err = next()
				if err != nil {
					return nil, err
				}
				e, ok := t.(xml.StartElement)
				if !ok {
					return nil, errors.New("key " + key + " without a value")
				}
				if _, ok := out[key]; ok {
					return nil, errors.New("key " + key + " twice")
				}
				if out[key], err = value(e); err != nil {
					return nil, err
				}
			}
		}
		return nil, errors.New("unknown element " + s.Name.Local)
	}
	t, err := next()
	if err != nil {
		return nil, err
	}
	if s, ok := t.(xml.StartElement); !ok || s.Name.Local != "plist" {
		return nil, errors.New("not a property list")
	}
	if t, err = next(); err != nil {
		return nil, err
	}
	s, ok := t.(xml.StartElement)
	if !ok {
		return nil, errors.New("an empty property list")
	}
	v, err := value(s)
	if err != nil {
		return nil, err
	}
	if _, err := next(); err != nil {
		return nil, err
	}
	if _, err := next(); err != io.EOF {
		return nil, errors.New("something follows the property list")
	}
	out, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not a dict")
	}
	return out, nil
}

func TestRefused(t *testing.T) {
	bad := map[string]string{
		"empty": "", "root": "/", "relative": "usr/local", "newline": "/opt/a\nExecStart=/bin/sh", "quote": `/opt/a"b`,
		"single quote": "/opt/a'b", "specifier": "/opt/%h", "variable": "/opt/$HOME", "backslash": `/opt/\x41`,
		"colon": "/opt/a:b", "dots": "/opt/../etc", "slash at the end": "/opt/", "element": "/opt/<string>",
		"control": "/opt/\x01", "beyond ascii": "/opt/ä", "space at the end": "/opt/a ", "space before a slash": "/opt/a /b",
		"semicolon": "/opt/a;b", "long": "/" + strings.Repeat("a", maxPath),
	}
	for what, p := range bad {
		for field, set := range map[string]func(*Values){
			"prefix": func(v *Values) { v.Prefix = p }, "config": func(v *Values) { v.Config = p },
			"state": func(v *Values) { v.State = p }, "run": func(v *Values) { v.Run = p },
			"spool": func(v *Values) { v.Spool = p }, "logs": func(v *Values) { v.Logs = p },
			"home": func(v *Values) { v.Home = p },
		} {
			v := macos()
			set(&v)
			if field == "home" && p == "" {
				continue
			}
			if _, err := Launchd(PlistGateway, v); err == nil {
				t.Errorf("launchd took %s as %s", what, field)
			}
			if field == "logs" && p == "" {
				continue
			}
			if _, err := Systemd(UnitGateway, v); err == nil {
				t.Errorf("systemd took %s as %s", what, field)
			}
			if _, err := Profile(v); field == "prefix" && err == nil {
				t.Errorf("the profile took %s", what)
			}
		}
	}
	for _, n := range []string{"", "Root", "0", "a b", "a\nUser=root", "-x", "a$", strings.Repeat("a", maxName+1)} {
		for field, set := range map[string]func(*Values){
			"user": func(v *Values) { v.ServiceUser = n }, "group": func(v *Values) { v.ServiceGroup = n },
			"client group": func(v *Values) { v.ClientGroup = n },
		} {
			v := linux()
			set(&v)
			if _, err := Systemd(UnitGateway, v); err == nil {
				t.Errorf("systemd took %q as %s", n, field)
			}
		}
	}
	for _, name := range []string{"", "other.service", "../embed.go", PlistGateway} {
		if _, err := Systemd(name, linux()); err == nil {
			t.Errorf("Systemd rendered %q", name)
		}
	}
	for _, name := range []string{"", UnitGateway, "ai.carapace.other.plist"} {
		if _, err := Launchd(name, macos()); err == nil {
			t.Errorf("Launchd rendered %q", name)
		}
	}
}

// TestNothingBecomesSyntax is the promise of the package as a property: with
// any value that is taken, the files keep their shape line for line.
func TestNothingBecomesSyntax(t *testing.T) {
	shape := func(b []byte) []string {
		var out []string
		for line := range strings.Lines(string(b)) {
			key, _, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
			out = append(out, key)
		}
		return out
	}
	base, err := Systemd(UnitGateway, linux())
	if err != nil {
		t.Fatal(err)
	}
	want := shape(base)
	rapid.Check(t, func(t *rapid.T) {
		seg := rapid.StringMatching(`[A-Za-z0-9._+,@=-]{1,8}( [A-Za-z0-9]{1,4})?`)
		if rapid.Bool().Draw(t, "wild") {
			seg = rapid.String()
		}
		p := func(what string) string {
			return "/" + strings.Join(rapid.SliceOfN(seg, 1, 3).Draw(t, what), "/")
		}
		v := linux()
		v.Prefix, v.Config, v.State, v.Run, v.Spool = p("prefix"), p("config"), p("state"), p("run"), p("spool")
		b, err := Systemd(UnitGateway, v)
		if err != nil {
			return
		}
		if d := cmp.Diff(want, shape(b)); d != "" {
			t.Fatalf("the unit changed its shape:\n%s", d)
		}
		v.Logs = "/l"
		x, err := Launchd(PlistGateway, v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readPlist(x)
		if err != nil {
			t.Fatal(err)
		}
		args := []any{v.Prefix + "/libexec/carapaced", "--config", v.Config, "--state", v.State, "--run", v.Run, "--spool", v.Spool}
		if d := cmp.Diff(args, got["ProgramArguments"]); d != "" {
			t.Fatalf("the arguments changed:\n%s", d)
		}
	})
}

// TestSystemdAnalyze lets systemd itself read the units and score them.
func TestSystemdAnalyze(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze: not on this machine")
	}
	if _, err := os.Stat("/run/systemd"); err != nil && os.Geteuid() != 0 {
		t.Skip("needs root: systemd-analyze makes /run/systemd, which is not there")
	}
	// verify wants programs that can be run; the names in the unit are ours.
	dir := t.TempDir()
	v := linux()
	v.Prefix = filepath.Join(dir, "prefix with a space")
	for _, p := range []string{"bin/carapace-setup", "libexec/carapaced"} {
		p = filepath.Join(v.Prefix, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	v.Config = filepath.Join(dir, "a config.yaml")
	units := filepath.Join(dir, "units")
	if err := os.Mkdir(units, 0o755); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range []string{UnitGateway, UnitRundir} {
		b, err := Systemd(name, v)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(units, name)
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		all = append(all, file)
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no", "--recursive-errors=no"}, all...)...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "carapace") {
			t.Errorf("systemd-analyze verify complains: %s", line)
		}
	}
	// The threshold is in tenths here: 20 is an exposure of 2.0.
	for _, network := range []bool{false, true} {
		v.Network = network
		b, err := Systemd(UnitGateway, v)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(units, UnitGateway)
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err = exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold=20", file).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security, network %v: %v\n%s", network, err, out)
		}
		if !bytes.Contains(out, []byte("Overall exposure level for")) {
			t.Errorf("systemd-analyze security said nothing about the unit:\n%s", out)
		}
		if lines := bytes.Split(bytes.TrimSpace(out), []byte("\n")); len(lines) > 0 {
			t.Logf("network %v: %s", network, lines[len(lines)-1])
		}
	}
}

// TestProfile runs the snippet in a shell: once, twice, and with an empty PATH.
func TestProfile(t *testing.T) {
	b, err := Profile(Values{Prefix: "/usr/local/carapace"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/usr/bin:/bin":                         "/usr/local/carapace/bin:/usr/bin:/bin",
		"":                                      "/usr/local/carapace/bin",
		"/bin:/usr/local/carapace/bin:/usr/bin": "/bin:/usr/local/carapace/bin:/usr/bin",
	} {
		cmd := exec.Command("/bin/sh", "-eu")
		cmd.Env = []string{"PATH=" + path}
		cmd.Stdin = strings.NewReader(string(b) + string(b) + `echo "$PATH"` + "\n")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("PATH %q became %q, want %q", path, got, want)
		}
	}
}
