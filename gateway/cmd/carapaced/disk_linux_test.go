package main

import (
	"os"
	"path/filepath"
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
