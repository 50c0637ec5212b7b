package platform

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPaths(t *testing.T) {
	l, err := NewPaths(Linux, "", "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewPaths(MacOS, "/Library/Carapace", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{l.Program("carapacectl"), "/usr/local/carapace/bin/carapacectl"},
		{l.Program("carapaced"), "/usr/local/carapace/libexec/carapaced"},
		{l.Tool("imsg"), "/usr/local/carapace/tools/imsg/imsg"},
		{l.Facts, "/usr/local/carapace/share/install.json"},
		{l.ConfigFile, "/etc/carapace/config.yaml"},
		{l.Secrets, "/etc/carapace/secrets"},
		{l.State, "/var/lib/carapace"},
		{l.Socket, "/run/carapace/gateway.sock"},
		{l.Admin, "/run/carapace/admin.sock"},
		{l.SpoolOf("alice"), "/var/spool/carapace/alice"},
		{l.ReceiptAt, "/var/lib/carapace-setup/receipt.json"},
		{l.Unit("carapace.service"), "/etc/systemd/system/carapace.service"},
		{m.Program("imsg"), "/Library/Carapace/bin/imsg"},
		{m.ConfigFile, "/Library/Application Support/Carapace/config.yaml"},
		{m.State, "/var/db/carapace"},
		{m.Socket, "/var/run/carapace/gateway.sock"},
		{m.ReceiptAt, "/var/db/carapace-setup/receipt.json"},
		{m.Logs, "/Library/Logs/Carapace"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	for _, prefix := range []string{"/", "/usr", "opt/x", "/opt/../x", "/opt/a b", "/opt/$x", "/opt/.x", "/opt/x/", "//opt/x", "/opt/x\n"} {
		if _, err := NewPaths(Linux, prefix, ""); err == nil {
			t.Errorf("prefix %q was taken", prefix)
		}
	}
	if _, err := NewPaths("beos", "", ""); err == nil {
		t.Error("a system that nobody knows was taken")
	}
	if _, err := NewPaths(Linux, "", "/"+strings.Repeat("a", 100)); err == nil {
		t.Error("a socket path that no system takes was taken")
	}
}

func TestOurs(t *testing.T) {
	all := []Process{
		{PID: 10, PPID: 1, Program: "/p/libexec/carapaced"},
		{PID: 11, PPID: 10, Program: "/usr/bin/java"},
		{PID: 12, PPID: 11, Program: ""},
		{PID: 13, PPID: 1, Program: "/usr/bin/java"},
		{PID: 14, PPID: 13, Program: "/p-not/x"},
		{PID: 15, PPID: 15, Program: "/bin/sh"}, // no such thing, and no reason to hang
	}
	ours, foreign := Ours(all, "/p")
	pids := func(ps []Process) (out []int) {
		for _, p := range ps {
			out = append(out, p.PID)
		}
		return out
	}
	if !slices.Equal(pids(ours), []int{10, 11, 12}) || !slices.Equal(pids(foreign), []int{13, 14, 15}) {
		t.Errorf("ours %v, foreign %v", pids(ours), pids(foreign))
	}
}

// TestParseRecord reads what dscl prints, in the forms of its source.
func TestParseRecord(t *testing.T) {
	got := parseRecord("dsAttrTypeNative:IsHidden: 1\nGroupMembership: root carapace\nNFSHomeDirectory: /var/empty\n" +
		"RealName:\n Carapace Gateway\nUniqueID: -2\nNo such key: Attr\n")
	want := map[string][]string{
		"IsHidden": {"1"}, "GroupMembership": {"root", "carapace"}, "NFSHomeDirectory": {"/var/empty"},
		"RealName": {"Carapace Gateway"}, "UniqueID": {"-2"}, "No such key": {"Attr"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if id, err := oneID(got, "UniqueID"); err != nil || id != 4294967294 {
		t.Errorf("nobody is %d, error %v", id, err)
	}
}
