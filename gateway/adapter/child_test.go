package adapter

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests' tools are this test binary itself, started through a two-line
// script so that the tool is a file of the test's own: childMain is what runs
// then.
const childMark = "cptest-child"

func TestMain(m *testing.M) {
	for i, a := range os.Args {
		if a == childMark {
			childMain(os.Args[i+1:])
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// folder is a folder that nobody else can write, whatever the umask.
func folder(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp("", "cptest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(d)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

// tool writes a tool that runs childMain with the given words in front.
func tool(t testing.TB, words ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder(t), "tool")
	script(t, path, fmt.Sprintf("exec %q %s %s \"$@\"", self, childMark, strings.Join(words, " ")))
	return path
}

func script(t testing.TB, path, body string) {
	t.Helper()
	// Written under another name and moved: a shell that another test forks
	// at this moment must not hold it open for writing (ETXTBSY).
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func spec(t testing.TB, path string) Spec {
	dir := folder(t)
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Name: "imessage", Tool: path, Args: []string{"rpc"}, Dir: dir, Home: home,
		Timeout: 2 * time.Minute, TrustOwner: []uint32{0, uint32(os.Getuid())},
	}
}

// alive reports whether a process exists and is not a zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		_, err := os.Stat("/proc/self/stat")
		return err != nil // without /proc the signal is all we have
	}
	state := b[strings.LastIndexByte(string(b), ')')+2]
	return state != 'Z' && state != 'X'
}

// eventually waits for a condition without caring how slow the machine is.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("never came true: %s", what)
}

func noChild(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("process %d is still there, or was not reaped", pid)
	}
}

func childMain(words []string) {
	switch words[0] {
	case "env":
		for _, v := range os.Environ() {
			fmt.Println(v)
		}
	case "where":
		d, _ := os.Getwd()
		sid, _, _ := syscall.RawSyscall(syscall.SYS_GETSID, 0, 0, 0)
		var core syscall.Rlimit
		_ = syscall.Getrlimit(syscall.RLIMIT_CORE, &core)
		fmt.Printf("%s\nleader=%v group=%v core=%d/%d\n", d, int(sid) == os.Getpid(), syscall.Getpgrp() == os.Getpid(), core.Cur, core.Max)
	case "args":
		fmt.Printf("%q\n", words[1:])
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "exit":
		n, _ := strconv.Atoi(words[1])
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "err")
		os.Exit(n)
	case "crash":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour)
	case "hang":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println(os.Getpid())
		time.Sleep(time.Hour)
	case "print": // N MiB on stdout, without a line end
		n, _ := strconv.Atoi(words[1])
		pour(n)
	case "family": // leaves a grandchild that holds our output
		c := exec.Command("/bin/sleep", "1000")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if err := c.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(c.Process.Pid)
	case "runaway": // leaves one that left the group too
		c := exec.Command("/bin/sleep", words[1])
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		_ = c.Start()
		fmt.Println(c.Process.Pid)
	case "daemon": // a daemon that keeps a resident child
		s := Spec{Name: "imessage", Tool: words[1], Dir: words[2], Home: words[2], TrustOwner: []uint32{uint32(os.Getuid())}}
		r := NewResident(s)
		_ = r.Start(context.Background())
		for r.Status().PID == 0 {
			time.Sleep(time.Millisecond)
		}
		fmt.Println(r.Status().PID)
		time.Sleep(time.Hour)
	case "server":
		server(words[1:])
	}
}

func pour(mib int) {
	block := []byte(strings.Repeat("x", 1<<20))
	for range mib {
		if _, err := os.Stdout.Write(block); err != nil {
			os.Exit(0)
		}
	}
}

// server speaks JSON-RPC as imsg 0.9 does, and misbehaves when it is asked to.
func server(words []string) {
	if len(words) > 0 && strings.HasPrefix(words[0], "sleep=") {
		d, _ := time.ParseDuration(words[0][len("sleep="):])
		time.Sleep(d)
	}
	var ledger *os.File
	if len(words) > 0 && strings.HasPrefix(words[0], "ledger=") {
		ledger, _ = os.OpenFile(words[0][len("ledger="):], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var q struct {
			ID     json.RawMessage
			Method string
			Params struct{ Token, Text string }
		}
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			fmt.Println(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}`)
			continue
		}
		if ledger != nil {
			fmt.Fprintln(ledger, q.Params.Token)
		}
		ok := func() {
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"pid":%d,"token":%q}}`+"\n", q.ID, os.Getpid(), q.Params.Token)
		}
		switch q.Method {
		case "echo":
			ok()
		case "slow":
			time.Sleep(300 * time.Millisecond)
			ok()
		case "hang":
			signal.Ignore(syscall.SIGTERM)
			time.Sleep(time.Hour)
		case "deaf": // answers, then never reads again
			ok()
			time.Sleep(time.Hour)
		case "exit":
			fmt.Fprintln(os.Stderr, "first line")
			fmt.Fprintln(os.Stderr, "cannot open /home/secret/chat.db")
			os.Exit(3)
		case "answer-exit":
			ok()
			os.Exit(3)
		case "quiet": // closes its output and stays
			os.Stdout.Close()
			time.Sleep(time.Hour)
		case "garbage":
			fmt.Println("Segmentation fault")
			ok()
		case "wrong-id":
			fmt.Println(`{"jsonrpc":"2.0","id":424242,"result":{}}`)
			ok()
		case "both":
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{},"error":{"code":1,"message":"x"}}`+"\n", q.ID)
		case "stray":
			fmt.Println(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request"}}`)
			fmt.Println()
			ok()
		case "flood":
			w := bufio.NewWriter(os.Stdout)
			for i := range 50_000 {
				fmt.Fprintf(w, `{"jsonrpc":"2.0","method":"message","params":{"subscription":1,"message":{"id":%d,"text":"hi"}}}`+"\n", i)
				if i%1000 == 0 {
					fmt.Fprintln(w)
				}
			}
			w.Flush()
			ok()
		case "endless":
			for {
				fmt.Println(`{"jsonrpc":"2.0","method":"message","params":{}}`)
			}
		case "big":
			pour(1024)
			fmt.Println()
			ok()
		case "long": // a long answer that is still within bounds
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%q}`+"\n", q.ID, strings.Repeat("y", 3<<20))
		case "noise":
			for range 50_000 {
				fmt.Fprintln(os.Stderr, "warning: something on /dev/null is not as it was")
			}
			ok()
		case "fail":
			d, _ := json.Marshal(q.Params.Text)
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"Internal error","data":%s}}`+"\n", q.ID, d)
		case "family":
			c := exec.Command("/bin/sleep", "1000")
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			if err := c.Start(); err != nil {
				os.Exit(9)
			}
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%d}`+"\n", q.ID, c.Process.Pid)
		default:
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`+"\n", q.ID)
		}
	}
}
