package adapter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

func once(t *testing.T, words ...string) *OneShot {
	t.Helper()
	return onceWith(t, spec(t, tool(t, words...)))
}

func onceWith(t *testing.T, s Spec) *OneShot {
	t.Helper()
	o := NewOneShot(s)
	t.Cleanup(func() { o.Close() })
	return o
}

func run(t *testing.T, o *OneShot, stdin string, args ...string) channel.Reply {
	t.Helper()
	r, err := o.Run(t.Context(), channel.Command{Argv: append([]string{"imsg"}, args...), Stdin: []byte(stdin)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOneShotReply(t *testing.T) {
	o := once(t, "exit")
	for _, code := range []int{0, 1, 77, 255} {
		r := run(t, o, "", strconv.Itoa(code))
		if r.Exit != code || string(r.Data) != "out\n" || string(r.Stderr) != "err\n" {
			t.Errorf("code %d: got %+v", code, r)
		}
	}
	if s := o.Status(); s.State != channel.StateReady {
		t.Errorf("status %+v", s)
	}
}

func TestOneShotArgumentsAndInput(t *testing.T) {
	r := run(t, once(t, "args"), "", "--text", "a b", "", "$HOME;`id`", "\"")
	if got, want := string(r.Data), fmt.Sprintf("%q\n", []string{"--text", "a b", "", "$HOME;`id`", "\""}); got != want {
		t.Errorf("arguments %s, want %s", got, want)
	}
	big := strings.Repeat("0123456789", 200_000)
	if r := run(t, once(t, "cat"), big); string(r.Data) != big {
		t.Errorf("%d bytes came back of %d", len(r.Data), len(big))
	}
	if r := run(t, once(t, "cat"), ""); len(r.Data) != 0 || r.Exit != 0 {
		t.Errorf("no input: %+v", r)
	}
	// A tool that does not read what it is given is no failure.
	if r := run(t, once(t, "exit"), big, "4"); r.Exit != 4 {
		t.Errorf("unread input: %+v", r)
	}
}

func TestOneShotEnvironment(t *testing.T) {
	t.Setenv("CARAPACE_SECRET", "x")
	t.Setenv("LD_PRELOAD", "")
	s := spec(t, tool(t, "env"))
	s.Env = []string{"TZ=UTC"}
	got := strings.Split(strings.TrimSpace(string(run(t, onceWith(t, s), "").Data)), "\n")
	got = slices.DeleteFunc(got, func(v string) bool {
		return strings.HasPrefix(v, "PWD=") || strings.HasPrefix(v, "SHLVL=") || strings.HasPrefix(v, "_=") || strings.HasPrefix(v, "OLDPWD=")
	}) // the script's own shell
	slices.Sort(got)
	want := []string{"HOME=" + s.Home, "LANG=C.UTF-8", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "TMPDIR=" + filepath.Join(s.Dir, "tmp"), "TZ=UTC"}
	if !slices.Equal(got, want) {
		t.Errorf("environment\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if info, err := os.Stat(filepath.Join(s.Dir, "tmp")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("TMPDIR: %v %v", info, err)
	}
}

func TestOneShotPlace(t *testing.T) {
	s := spec(t, tool(t, "where"))
	got := string(run(t, onceWith(t, s), "").Data)
	if want := s.Dir + "\nleader=true group=true core=0/0\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOneShotDescriptors(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("needs /proc: there is no other way to list a process's descriptors")
	}
	// What a careless library, or whoever started the daemon, leaves open.
	secret := filepath.Join(folder(t), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Open(secret, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	lister := filepath.Join(folder(t), "tool")
	script(t, lister, "exec /bin/ls -l /proc/self/fd")
	out := string(run(t, onceWith(t, spec(t, lister)), "").Data)
	if strings.Contains(out, secret) {
		t.Errorf("the child holds the secret:\n%s", out)
	}
	seen := 0
	for l := range strings.Lines(out) {
		words := strings.Fields(l)
		if len(words) < 3 || words[len(words)-2] != "->" {
			continue
		}
		seen++
		// ls itself has the folder open that it lists.
		if n, to := words[len(words)-3], words[len(words)-1]; n > "2" && !strings.HasPrefix(to, "/proc/") {
			t.Errorf("the child holds %s %s", n, to)
		}
	}
	if seen < 3 {
		t.Errorf("only %d descriptors listed:\n%s", seen, out)
	}
}

func TestMarkEach(t *testing.T) {
	list := "/dev/fd"
	if runtime.GOOS == "linux" {
		list = "/proc/self/fd"
	}
	fd, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	flags := func() uintptr {
		f, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno != 0 {
			t.Fatal(errno)
		}
		return f
	}
	if flags()&syscall.FD_CLOEXEC != 0 {
		t.Fatal("the descriptor is marked before")
	}
	if err := markEach(list); err != nil {
		t.Fatal(err)
	}
	if flags()&syscall.FD_CLOEXEC == 0 {
		t.Error("the descriptor is not marked")
	}
}

func TestOneShotHang(t *testing.T) {
	s := spec(t, tool(t, "hang"))
	s.Timeout = 5 * time.Second // enough for a busy machine to have started the child
	r, err := onceWith(t, s).Run(t.Context(), channel.Command{Argv: []string{"imsg"}})
	if !errors.Is(err, channel.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(r.Data)))
	if err != nil {
		t.Fatalf("the child did not say who it is: %q", r.Data)
	}
	noChild(t, pid)
}

func TestOneShotCrash(t *testing.T) {
	_, err := once(t, "crash").Run(t.Context(), channel.Command{Argv: []string{"imsg"}})
	if !errors.Is(err, channel.ErrUnknown) {
		t.Fatalf("got %v", err)
	}
}

func TestOneShotGigabyte(t *testing.T) {
	s := spec(t, tool(t, "print"))
	s.MaxOutput = 4 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := onceWith(t, s).Run(t.Context(), channel.Command{Argv: []string{"imsg", "1024"}})
	runtime.ReadMemStats(&after)
	if !errors.Is(err, channel.ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	if len(r.Data) > 4<<20 {
		t.Errorf("%d bytes kept", len(r.Data))
	}
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 64<<20 {
		t.Errorf("%d MiB were allocated", grew>>20)
	}
	// What fits exactly is no offence.
	s.MaxOutput = 2 << 20
	if r := run(t, onceWith(t, s), "", "2"); len(r.Data) != 2<<20 {
		t.Errorf("%d bytes", len(r.Data))
	}
}

func TestOneShotLeavesNothing(t *testing.T) {
	r := run(t, once(t, "family"), "")
	pid, err := strconv.Atoi(strings.TrimSpace(string(r.Data)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the grandchild is gone", func() bool { return !alive(pid) })
}

func TestOneShotDoesNotWaitForARunaway(t *testing.T) {
	began := time.Now()
	r := run(t, once(t, "runaway"), "", "60")
	pid, err := strconv.Atoi(strings.TrimSpace(string(r.Data)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("waited %s for a pipe that a stranger holds", took)
	}
}

func TestOneShotRefusals(t *testing.T) {
	good := tool(t, "args")
	other := tool(t, "args")
	sum := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.Sum256(b)
		return hex.EncodeToString(h[:])
	}
	base := spec(t, good)
	cases := []struct {
		name string
		edit func(*Spec)
		cmd  channel.Command
	}{
		{"a request", nil, channel.Command{Request: &channel.Request{Method: "send"}}},
		{"no name", nil, channel.Command{}},
		{"a NUL", nil, channel.Command{Argv: []string{"imsg", "a\x00b"}}},
		{"missing", func(s *Spec) { s.Tool += "x" }, channel.Command{Argv: []string{"imsg"}}},
		{"relative", func(s *Spec) { s.Tool = "imsg" }, channel.Command{Argv: []string{"imsg"}}},
		{"a variable", func(s *Spec) { s.Env = []string{"LD_PRELOAD=/x"} }, channel.Command{Argv: []string{"imsg"}}},
		{"no folder", func(s *Spec) { s.Dir += "/none" }, channel.Command{Argv: []string{"imsg"}}},
		{"wrong pin", func(s *Spec) { s.SHA256 = strings.Repeat("0", 64) }, channel.Command{Argv: []string{"imsg"}}},
		{"half a pin", func(s *Spec) { s.SHA256 = "00" }, channel.Command{Argv: []string{"imsg"}}},
		{"other than pinned", func(s *Spec) { s.SHA256 = sum(good) }, channel.Command{Path: other, Argv: []string{"imsg"}}},
		{"other and relative", nil, channel.Command{Path: "bin/x", Argv: []string{"imsg"}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := base
			if c.edit != nil {
				c.edit(&s)
			}
			_, err := onceWith(t, s).Run(t.Context(), c.cmd)
			if !errors.Is(err, channel.ErrNotStarted) {
				t.Fatalf("got %v", err)
			}
			if c.name == "no folder" && !strings.Contains(err.Error(), "working folder") {
				t.Errorf("got %v", err)
			}
			if strings.Contains(err.Error(), s.Dir) {
				t.Errorf("the error names a path: %v", err)
			}
		})
	}
	s := base
	s.SHA256 = strings.ToUpper(sum(good))
	o := onceWith(t, s)
	run(t, o, "")
	run(t, o, "") // the second time from memory
	script(t, good, "echo other")
	if _, err := o.Run(t.Context(), channel.Command{Argv: []string{"imsg"}}); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("a tool that changed was run: %v", err)
	}
	if st := o.Status(); st.State != channel.StateDown || !strings.Contains(st.LastError, "pinned") {
		t.Errorf("status %+v", st)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := onceWith(t, base).Run(done, channel.Command{Argv: []string{"imsg"}}); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("a caller who had left: %v", err)
	}
}

func TestOneShotClose(t *testing.T) {
	o := once(t, "hang")
	var wg sync.WaitGroup
	replies := make(chan channel.Reply, 3)
	for range 3 {
		wg.Go(func() {
			r, err := o.Run(t.Context(), channel.Command{Argv: []string{"imsg"}})
			if !errors.Is(err, channel.ErrUnknown) && !errors.Is(err, channel.ErrNotStarted) {
				t.Errorf("got %v", err)
			}
			replies <- r
		})
	}
	time.Sleep(200 * time.Millisecond)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	close(replies)
	for r := range replies {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(r.Data))); err == nil {
			noChild(t, pid)
		}
	}
	if _, err := o.Run(t.Context(), channel.Command{Argv: []string{"imsg"}}); !errors.Is(err, channel.ErrNotStarted) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOneShotMany(t *testing.T) {
	o := once(t, "cat")
	var wg sync.WaitGroup
	for i := range 3 * maxRuns {
		wg.Go(func() {
			want := strings.Repeat(strconv.Itoa(i), 1000)
			r, err := o.Run(t.Context(), channel.Command{Argv: []string{"imsg"}, Stdin: []byte(want)})
			if err != nil || string(r.Data) != want {
				t.Errorf("run %d: %d bytes, %v", i, len(r.Data), err)
			}
		})
	}
	wg.Wait()
}

func TestCheckVariable(t *testing.T) {
	for v, ok := range map[string]bool{
		"TZ=UTC": true, "A_1=": true, "X=a=b c": true,
		"": false, "TZ": false, "=x": false, "1A=x": false, "tz=x": false, "A B=x": false, "A=x\ny": false, "A=\x00": false,
		"PATH=/x": false, "HOME=/x": false, "TMPDIR=/x": false, "LD_PRELOAD=x": false, "DYLD_INSERT_LIBRARIES=x": false,
		"BASH_ENV=x": false, "ENV=x": false, "ENVIRONMENT=x": true, "NODE_OPTIONS=x": false, "PYTHONPATH=x": false, "IFS=x": false,
	} {
		if err := checkVariable(v); (err == nil) != ok {
			t.Errorf("%q: %v", v, err)
		}
	}
}
