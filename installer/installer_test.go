package installer

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// sample is the answers file of interface §3, with every key.
const sample = `service_user: carapace
client_group: carapace-clients
clients: [alice]
region: US
channels:
  loopback: {enabled: true}
  imessage: {enabled: true, tool: /opt/homebrew/bin/imsg, sha256: "00"}
  signal:   {enabled: false, tool: /opt/homebrew/bin/signal-cli, account: "+15551234567"}
  discord:  {enabled: false, token_file: /etc/discord-token}
  gmail:    {enabled: false, tool: /opt/homebrew/bin/gog, account: me@example.com}
allow:
  outbound: {imessage: ["+15550001111", "*@family.example"]}
  inbound:  {imessage: ["+15550001111"]}
start: false
openclaw: true
`

func TestAnswers(t *testing.T) {
	var a Answers
	if err := ParseAnswers("answers.yaml", []byte(sample), &a); err != nil {
		t.Fatal(err)
	}
	s := Defaults()
	s.Merge(a)
	want := Settings{
		ServiceUser: "carapace", ClientGroup: "carapace-clients", Clients: []string{"alice"}, Region: "US",
		Channels: map[string]Channel{
			"loopback": {Enabled: true}, "imessage": {Enabled: true, Tool: "/opt/homebrew/bin/imsg", SHA256: "00"},
			"signal":  {Tool: "/opt/homebrew/bin/signal-cli", Account: "+15551234567"},
			"discord": {TokenFile: "/etc/discord-token"}, "gmail": {Tool: "/opt/homebrew/bin/gog", Account: "me@example.com"},
		},
		Outbound: map[string][]string{"imessage": {"+15550001111", "*@family.example"}},
		Inbound:  map[string][]string{"imessage": {"+15550001111"}},
		OpenClaw: true,
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var more Answers
	if err := ParseAnswers("more.yaml", []byte("channels: {imessage: {tool: /usr/bin/imsg}}\n"), &more); err != nil {
		t.Fatal(err)
	}
	s.Merge(more)
	if c := s.Channels["imessage"]; c != (Channel{Enabled: true, Tool: "/usr/bin/imsg"}) {
		t.Errorf("another tool keeps the hash of the first: %+v", c)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseSettings(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(s, back); d != "" {
		t.Errorf("settings do not survive a receipt (-want +got):\n%s", d)
	}
}

func FuzzParseAnswers(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("channels: {a: {b: c}}"))
	f.Add([]byte("clients: alice"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a Answers
		if ParseAnswers("f", data, &a) != nil {
			return
		}
		s := Defaults()
		s.Merge(a)
		if _, err := s.Config(map[string]string{"imsg": "/usr/local/carapace/tools/imsg/imsg"}); err != nil {
			return
		}
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
	})
}

// paper is either system, on paper.
func paper(t *testing.T, system string) platform.Platform {
	t.Helper()
	where, err := platform.NewPaths(system, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if system == platform.MacOS {
		return platform.NewMac(where, true, nil)
	}
	l := platform.NewLinux(where, nil)
	l.OnPaper, l.FS.Paper = true, true
	return l
}

// TestOrder holds the order of the steps against what each needs: accounts
// before what they own, folders before what is in them, everything before the
// services.
func TestOrder(t *testing.T) {
	for _, system := range []string{platform.Linux, platform.MacOS} {
		s := Defaults()
		s.Clients = []string{"alice", "bob"}
		s.Channels["imessage"] = Channel{Enabled: true, Tool: "/usr/bin/imsg"}
		steps, err := Steps(context.Background(), s, paper(t, system), Release{Dir: "/dist", Version: "1"})
		if err != nil {
			t.Fatal(err)
		}
		at := func(kind, key string) int {
			t.Helper()
			i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Kind() == kind && s.Key() == key })
			if i < 0 {
				t.Fatalf("%s: no step %s %s", system, kind, key)
			}
			return i
		}
		user := at("user", "carapace")
		if at("group", "carapace") > user || user > at("member", "alice in carapace-clients") {
			t.Errorf("%s: the accounts are out of order", system)
		}
		made := map[string]int{}
		for i, st := range steps {
			if st.Title() == "" || plan.Why(st) == "" {
				t.Errorf("%s: step %s %s does not say what or why", system, st.Kind(), st.Key())
			}
			if st.Kind() == "dir" {
				made[st.Key()] = i
				if i < user {
					t.Errorf("%s: %s is made before its owner", system, st.Key())
				}
			}
		}
		for i, st := range steps {
			path := st.Key()
			if st.Kind() == "tool" {
				path = "/usr/local/carapace/tools/imsg/imsg"
			}
			for dir, j := range made {
				if platform.Under(path, dir) && path != dir && j > i {
					t.Errorf("%s: %s comes before the folder %s", system, path, dir)
				}
			}
			if change, err := st.Plan(context.Background()); err != nil || change != plan.Make {
				t.Errorf("%s: on paper %s is %q, %v", system, st.Title(), change, err)
			}
		}
		if last := steps[len(steps)-1]; last.Kind() != "service" || !strings.Contains(last.Key(), "carapace") {
			t.Errorf("%s: the last step is %s", system, last.Title())
		}
	}
}

func TestRefusedSettings(t *testing.T) {
	for what, change := range map[string]func(*Settings){
		"a channel that nobody knows": func(s *Settings) { s.Channels["pigeon"] = Channel{Enabled: true} },
		"one that is not built":       func(s *Settings) { s.Channels["gmail"] = Channel{Enabled: true} },
		"one without its tool":        func(s *Settings) { s.Channels["imessage"] = Channel{Enabled: true} },
		"a tool never imported": func(s *Settings) {
			s.Channels["imessage"] = Channel{Enabled: true, Tool: "/usr/local/carapace/tools/imsg/imsg"}
		},
		"a tool with a path for a name": func(s *Settings) { s.Tools = map[string]Import{"../x": {Source: "/x"}} },
		"a list nobody can read":        func(s *Settings) { s.Outbound = map[string][]string{"imessage": {"+15550001111"}} },
		"a client that is no name":      func(s *Settings) { s.Clients = []string{"a b"} },
	} {
		s := Defaults()
		s.Clients = []string{"alice"}
		change(&s)
		if _, err := Steps(context.Background(), s, paper(t, platform.Linux), Release{Dir: "/dist"}); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}
