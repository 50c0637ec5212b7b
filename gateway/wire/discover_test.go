package wire

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodFacts = `{"version":"1.2","prefix":"/p","service_user":"carapace","service_uid":991,"socket":"/run/g.sock","admin_socket":"/run/a.sock",
"spool":"/s","clients":["alice"],"files":[{"path":"/p/bin/x","sha256":"ab"}],"later":{"x":1}}`

func writeFacts(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "install.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadInstallFacts(t *testing.T) {
	f, err := ReadInstallFacts(writeFacts(t, goodFacts))
	if err != nil || f.Version != "1.2" || f.ServiceUID != 991 || f.Socket != "/run/g.sock" || f.AdminSocket != "/run/a.sock" ||
		len(f.Clients) != 1 || len(f.Files) != 1 || f.Files[0].SHA256 != "ab" {
		t.Fatalf("%+v, %v", f, err)
	}
	for name, text := range map[string]string{
		"nothing":         ``,
		"not JSON":        `{`,
		"cut":             goodFacts[:len(goodFacts)-1],
		"no uid":          strings.Replace(goodFacts, "service_uid", "x", 1),
		"uid a string":    strings.Replace(goodFacts, "991", `"991"`, 1),
		"uid negative":    strings.Replace(goodFacts, "991", "-1", 1),
		"uid of nobody":   strings.Replace(goodFacts, "991", "4294967295", 1),
		"two uids":        strings.Replace(goodFacts, `"version":"1.2"`, `"service_uid":0`, 1),
		"relative socket": strings.Replace(goodFacts, "/run/g", "g", 1),
		"no admin socket": strings.Replace(goodFacts, "admin_socket", "y", 1),
		"long":            strings.Replace(goodFacts, "1.2", strings.Repeat("x", maxFacts), 1),
	} {
		if f, err := ReadInstallFacts(writeFacts(t, text)); err == nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
	path := writeFacts(t, goodFacts)
	link := path + ".link"
	os.Symlink(path, link)
	if _, err := ReadInstallFacts(link); err == nil {
		t.Error("a link was followed")
	}
	for _, mode := range []os.FileMode{0o664, 0o646} {
		os.Chmod(path, mode)
		if _, err := ReadInstallFacts(path); err == nil {
			t.Errorf("mode %o was believed", mode)
		}
	}
	if _, err := ReadInstallFacts(filepath.Dir(path)); err == nil {
		t.Error("a folder was read")
	}
}

func TestReadInstallFactsOfOthers(t *testing.T) {
	as := stranger(t)
	path := writeFacts(t, goodFacts)
	os.Chown(path, int(as.Uid), int(as.Gid))
	if _, err := ReadInstallFacts(path); err == nil {
		t.Error("root believed another user's facts")
	}
}

func TestFactsBeside(t *testing.T) {
	for exe, want := range map[string]string{
		"/usr/local/carapace/bin/imsg":         "/usr/local/carapace/share/install.json",
		"/usr/local/carapace/libexec/carapace": "/usr/local/carapace/share/install.json",
		"/bin/x":                               "/share/install.json",
		"/home/agent/x":                        "",
		"/x":                                   "",
	} {
		if got, err := factsBeside(exe); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", exe, got, err)
		}
	}
}

func TestDiscover(t *testing.T) {
	path := writeFacts(t, goodFacts)
	facts := func() (string, error) { return path, nil }
	none := func() (string, error) { return filepath.Join(path, "none"), nil }
	lost := func() (string, error) { return "", errors.New("lost") }
	for name, test := range map[string]struct {
		socket, uid string
		path        func() (string, error)
		want        ClientOptions
		ok          bool
	}{
		"installed":         {"", "", facts, ClientOptions{Socket: "/run/g.sock", ServerUID: 991}, true},
		"both":              {"/t/s", "7", lost, ClientOptions{Socket: "/t/s", ServerUID: 7}, true},
		"socket":            {"/t/s", "", facts, ClientOptions{Socket: "/t/s", ServerUID: 991}, true},
		"uid":               {"", "7", facts, ClientOptions{Socket: "/run/g.sock", ServerUID: 7}, true},
		"socket, no facts":  {"/t/s", "", none, ClientOptions{}, false},
		"uid is no number":  {"/t/s", "root", facts, ClientOptions{}, false},
		"uid is negative":   {"/t/s", "-1", facts, ClientOptions{}, false},
		"not installed":     {"", "", none, ClientOptions{}, false},
		"in no such folder": {"", "", lost, ClientOptions{}, false},
	} {
		o, err := discover(func(k string) string {
			return map[string]string{"CARAPACE_SOCKET": test.socket, "CARAPACE_SERVER_UID": test.uid}[k]
		}, test.path)
		if test.ok {
			if err != nil || o != test.want {
				t.Errorf("%s: %+v, %v", name, o, err)
			}
			continue
		}
		if u, ok := errors.AsType[*UnreachableError](err); !ok || !errors.Is(err, ErrNotInstalled) || u.Exit() != ExitUnavailable || u.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The environment stands in for the facts for an ordinary user, never for root
// and never for the admin socket.
func TestDiscoverEnvironment(t *testing.T) {
	env := []string{"CARAPACE_SOCKET=/t/s", "CARAPACE_SERVER_UID=7"}
	const believed, ignored = "client /t/s 7 true\n", "client  0 false\n"
	want := believed
	if os.Geteuid() == 0 {
		want = ignored
	}
	const admin = "admin  0 false\n"
	if got := helper(t, "discover", nil, env...); got != want+admin {
		t.Errorf("as uid %d: %s", os.Geteuid(), got)
	}
	if os.Geteuid() == 0 {
		if got := helper(t, "discover", stranger(t), env...); got != believed+admin {
			t.Errorf("as another user: %s", got)
		}
	}
}

func discoverHelper() error {
	o, err := Discover()
	fmt.Println("client", o.Socket, o.ServerUID, err == nil)
	o, err = DiscoverAdmin()
	fmt.Println("admin", o.Socket, o.ServerUID, err == nil)
	return nil
}
