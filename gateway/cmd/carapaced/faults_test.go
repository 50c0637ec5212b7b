package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// TestFullDisk fills the disk that the state is on: sends are refused with a
// clear word, the daemon stays up, nothing that was recorded is lost, and when
// there is room again it goes on by itself.
func TestFullDisk(t *testing.T) {
	h := newHouse(t, ordinary)
	state := filepath.Join(h.root, "state")
	if err := unix.Mount("cptest", state, "tmpfs", 0, "size=4m,mode=0700,uid="+h.service.Uid+",gid="+h.service.Gid); err != nil {
		t.Skipf("needs root and the right to mount: %v", err)
	}
	t.Cleanup(func() {
		for range 50 {
			if unix.Unmount(state, unix.MNT_DETACH) == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("%s is still mounted", state)
	})
	h.start()
	send := func() (string, int) {
		_, errs, exit := h.as(h.agent, h.bin("carapacectl"), "send", "--channel", "loopback", "--to", "echo", "--text", "hi")
		return errs, exit
	}
	if errs, exit := send(); exit != 0 {
		t.Fatalf("before: exit %d, %s", exit, errs)
	}
	before := len(h.records())

	filler := filepath.Join(state, "filler")
	fill(t, filler)
	// What is left of the last page of a file still takes some.
	var errs string
	exit, sent := 0, 0
	for ; exit == 0 && sent < 200; sent++ {
		errs, exit = send()
	}
	if exit != wire.ExitUnavailable || !strings.Contains(errs, "hint: ") {
		t.Errorf("full disk, message %d: exit %d, %q", sent, exit, errs)
	}
	intents := 0
	for _, e := range h.records() {
		if e.Kind == journal.KindIntent {
			intents++
		}
	}
	if intents < sent {
		t.Errorf("%d messages were accepted, %d intents are in the log", sent, intents)
	}
	// A stranger is refused too, and is not told anything else.
	_, errs, exit = h.as(h.agent, h.bin("carapacectl"), "send", "--channel", "loopback", "--to", "stranger", "--text", "hi")
	if exit == 0 {
		t.Errorf("a stranger passed on a full disk: %q", errs)
	}
	if _, errs, exit := h.as(h.agent, h.bin("carapacectl"), "ping"); exit != 0 {
		t.Errorf("ping on a full disk: exit %d, %s", exit, errs)
	}
	if err := h.admin("lock", map[string]string{"reason": "full"}, nil); err == nil {
		t.Log("locked on a full disk")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := h.admin("unlock", nil, nil); err != nil {
		t.Fatalf("unlock: %v\n%s", err, h.logged())
	}
	if errs, exit := send(); exit != 0 {
		t.Errorf("after: exit %d, %s\n%s", exit, errs, h.logged())
	}
	if after := len(h.records()); after <= before {
		t.Errorf("%d records before, %d after", before, after)
	}
	var report struct{ OK bool }
	if err := h.admin("audit.verify", nil, &report); err != nil || !report.OK {
		t.Errorf("audit verify: %+v, %v", report, err)
	}
}

// fill writes to path until nothing more goes in.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// TestToolFaults: a tool that is missing, hangs, crashes, floods or lies gives
// a clear error with the documented code; the daemon stays up, other channels
// are served, and nothing is sent twice.
func TestToolFaults(t *testing.T) {
	h := newHouse(t, strings.Replace(ordinary, "clients:", "gateway: {request_timeout: 2s}\nrate:\n  default: {requests: 1000, per: 1s}\n  per_peer: {requests: 1000, per: 1s}\nclients:", 1))
	tool := h.root + "/tools/imsg"
	if err := os.Rename(tool, tool+".away"); err != nil {
		t.Fatal(err)
	}
	h.start()
	send := func() (string, string, int) {
		return h.as(h.agent, h.bin("imsg"), "send", "--to", "+15551234567", "--text", "hi")
	}
	alive := func(t *testing.T) {
		t.Helper()
		if _, errs, exit := h.as(h.agent, h.bin("carapacectl"), "send", "--channel", "loopback", "--to", "echo", "--text", "hi"); exit != 0 {
			t.Errorf("another channel: exit %d, %s\n%s", exit, errs, h.logged())
		}
	}
	works := func(t *testing.T) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
			out, errs, exit := send()
			if exit == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the tool does not come back: exit %d, %s%s\n%s", exit, out, errs, h.logged())
			}
		}
	}

	out, errs, exit := send()
	if exit != wire.ExitUnavailable || !strings.HasPrefix(out, "imsg: ") || !strings.Contains(errs, "hint: ") {
		t.Errorf("missing tool: exit %d, stdout %q, stderr %q", exit, out, errs)
	}
	alive(t)
	if err := os.Rename(tool+".away", tool); err != nil {
		t.Fatal(err)
	}
	works(t)

	for _, fault := range []string{"hang", "crash", "crash-after-send", "huge", "garbage", "wrong-id"} {
		t.Run(fault, func(t *testing.T) {
			h.fault(fault)
			before := len(h.delivered())
			out, errs, exit := send()
			if exit == 0 || !strings.Contains(out+errs, "hint: ") {
				t.Errorf("exit %d, stdout %q, stderr %q", exit, out, errs)
			}
			alive(t)
			h.fault("")
			if n := len(h.delivered()) - before; n > 1 {
				t.Errorf("one call, %d messages", n)
			}
			works(t)
			if rss := residentKB(t, h.daemon.Process.Pid); rss > 200<<10 {
				t.Errorf("the daemon has %d KiB resident", rss)
			}
		})
	}
	if out, err := exec.Command("pgrep", "-U", h.service.Uid, "-c").Output(); err == nil && strings.TrimSpace(string(out)) > "2" {
		t.Errorf("%s processes of the service user; want the daemon and one tool", strings.TrimSpace(string(out)))
	}
}

func residentKB(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
