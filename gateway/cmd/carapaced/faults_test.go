package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

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
