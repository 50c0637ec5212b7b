package probe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// watch waits for a probe and opens its memory for writing, as any program of
// the same user may try at any moment.
func watch(out io.Writer) int {
	fmt.Fprintln(out, "watching")
	for {
		proc, err := os.Open("/proc")
		if err != nil {
			return 1
		}
		names, _ := proc.Readdirnames(-1)
		proc.Close()
		for _, pid := range names {
			line, err := os.ReadFile("/proc/" + pid + "/cmdline")
			args := strings.Split(string(line), "\x00")
			if err != nil || len(args) < 3 || args[1] != Subcommand || args[2] == "stand" || args[2] == "true" {
				continue
			}
			if fd, err := unix.Open("/proc/"+pid+"/mem", unix.O_RDWR, 0); err == nil {
				unix.Close(fd)
				fmt.Fprintln(out, "caught", pid)
				return 0
			}
		}
	}
}

// TestNoWindow shows that there is no moment, be it before the probe's first
// instruction, in which a program of the client's could write into the probe
// and have it say what it likes.
func TestNoWindow(t *testing.T) {
	s := newSite(t)
	cmd := exec.Command(s.target.SelfExe, "watch")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.client.uid, Gid: s.client.gid}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	if line, err := said.ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	caught := make(chan string, 1)
	go func() {
		line, _ := said.ReadString('\n')
		caught <- line
	}()
	defer cmd.Wait()
	defer cmd.Process.Kill()
	v := &verifier{t: s.target, root: true, walk: &walker{os: Linux}, program: s.target.SelfExe}
	for i := range 60 {
		if _, err := v.ask(context.Background(), s.client, []op{{Do: doLstat, Path: "/"}}); err != nil {
			t.Fatal(err)
		}
		select {
		case line := <-caught:
			t.Fatalf("run %d: %s", i+1, line)
		default:
		}
	}
}
