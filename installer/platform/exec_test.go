package platform

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestRunner(t *testing.T) {
	var r Runner
	ctx := context.Background()
	t.Setenv("CARAPACE_SECRET", "x")
	res, err := r.Read(ctx, "/usr/bin/env")
	if err != nil || res.Stdout != "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C\n" {
		t.Errorf("the environment of a command is %q, error %v", res.Stdout, err)
	}
	res, err = r.Read(ctx, "/bin/sh", "-c", "cat; pwd; echo oops >&2; exit 3")
	if err != nil || res.Exit != 3 || res.Stdout != "/\n" || res.Stderr != "oops\n" {
		t.Errorf("got %+v, %v", res, err)
	}
	mutations := 0
	r.Mutated = func(string) { mutations++ }
	_, err = r.Write(ctx, "/bin/sh", "-c", "echo one >&2; printf 'two\\033[2J\\n' >&2; exit 3")
	var c *CommandError
	if !errors.As(err, &c) || c.Exit != 3 || c.Line != "two?[2J" || mutations != 1 {
		t.Errorf("got %v after %d mutations", err, mutations)
	}
	if _, err = r.Read(ctx, "/bin/sh", "-c", "kill -9 $$"); err == nil || !strings.Contains(err.Error(), "signal 9") {
		t.Errorf("a killed command: %v", err)
	}
	if _, err = r.Read(ctx, "sh"); err == nil {
		t.Error("a relative path was run")
	}
	if _, err = r.Read(ctx, "/nonexistent/command"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing command: %v", err)
	}
	if _, err = r.Read(ctx, "/bin/sh", "-c", "yes | head -c 9000000"); err == nil || !strings.Contains(err.Error(), "bytes of output") {
		t.Errorf("a talkative command: %v", err)
	}
}

// TestRunnerTimeout runs a command whose child would outlive it.
func TestRunnerTimeout(t *testing.T) {
	r := Runner{Timeout: 300 * time.Millisecond}
	start := time.Now()
	_, err := r.Read(context.Background(), "/bin/sh", "-c", "sleep 600 & sleep 600")
	if err == nil || !strings.Contains(err.Error(), "no answer within 300ms") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 60*time.Second {
		t.Errorf("it took %v", took)
	}
}
