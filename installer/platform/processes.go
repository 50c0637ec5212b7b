package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Proc reads processes from a mounted /proc.
type Proc struct {
	Dir     string // "/proc"
	Patient time.Duration
	Mutated func(what string)
}

// Of lists the processes any of whose uids (real, effective, saved, file
// system) is the given one. What has ended and only waits for its parent is
// left out; what only looks so, because its first thread has ended, is not.
func (p *Proc) Of(_ context.Context, uid uint32) ([]Process, error) {
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		pr, mine, err := p.read(pid, uid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("look at process %d: %w", pid, err)
		}
		if mine {
			all = append(all, pr)
		}
	}
	return all, nil
}

func (p *Proc) read(pid int, uid uint32) (Process, bool, error) {
	dir := filepath.Join(p.Dir, strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return Process{}, false, err
	}
	pr := Process{PID: pid}
	mine, ended, threads := false, false, ""
	for _, line := range strings.Split(string(status), "\n") {
		key, val, _ := strings.Cut(line, ":")
		fields := strings.Fields(val)
		switch key {
		case "Name":
			pr.Name = printable(strings.TrimSpace(val))
		case "State":
			ended = len(fields) > 0 && (fields[0] == "Z" || fields[0] == "X")
		case "Threads":
			threads = strings.TrimSpace(val)
		case "PPid":
			if len(fields) == 1 {
				pr.PPID, _ = strconv.Atoi(fields[0])
			}
		case "Uid":
			for i, f := range fields {
				n, err := strconv.ParseUint(f, 10, 32)
				if err != nil {
					return Process{}, false, err
				}
				if i == 1 {
					pr.UID = uint32(n)
				}
				mine = mine || uint32(n) == uid
			}
		}
	}
	if !mine || ended && (threads == "" || threads == "0" || threads == "1") {
		return pr, false, nil
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Process{}, false, err
	}
	// The name in parentheses may hold anything; field 22 counts from the
	// last one.
	if _, rest, ok := cutLast(string(stat), ")"); ok {
		if fields := strings.Fields(rest); len(fields) > 19 {
			pr.Start = fields[19]
		}
	}
	if exe, err := os.Readlink(filepath.Join(dir, "exe")); err == nil {
		pr.Program = strings.TrimSuffix(exe, " (deleted)")
	}
	return pr, true, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Terminate sends SIGTERM to exactly that process and waits for its end: 10 s
// unless Patient says otherwise. It kills nothing that does not want to go.
func (p *Proc) Terminate(ctx context.Context, pr Process) error {
	h, err := os.FindProcess(pr.PID) // holds the process by descriptor where the kernel can
	if err != nil {
		return nil
	}
	defer h.Release()
	same := func() bool {
		now, mine, err := p.read(pr.PID, pr.UID)
		return err == nil && mine && now.Start == pr.Start
	}
	if !same() {
		return nil
	}
	if err := h.Signal(syscall.SIGTERM); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		return fmt.Errorf("end process %d (%s): %w", pr.PID, pr.Name, err)
	}
	if p.Mutated != nil {
		p.Mutated("terminate " + strconv.Itoa(pr.PID))
	}
	limit := p.Patient
	if limit == 0 {
		limit = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for same() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d (%s) was asked to end and still runs", pr.PID, pr.Name)
		case <-tick.C:
		}
	}
	return nil
}

// Ours splits processes into those that run a program below one of the folders
// or descend, among the given ones, from such a one, and the rest.
func Ours(all []Process, dirs ...string) (ours, foreign []Process) {
	byPID := make(map[int]Process, len(all))
	for _, p := range all {
		byPID[p.PID] = p
	}
	known := func(p Process) bool {
		for range len(all) + 1 {
			for _, d := range dirs {
				if p.Program != "" && Under(p.Program, d) {
					return true
				}
			}
			parent, ok := byPID[p.PPID]
			if !ok {
				return false
			}
			p = parent
		}
		return false
	}
	for _, p := range all {
		if known(p) {
			ours = append(ours, p)
		} else {
			foreign = append(foreign, p)
		}
	}
	return ours, foreign
}
