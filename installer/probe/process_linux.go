package probe

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

	"golang.org/x/sys/unix"
)

// status reads one line of /proc/PID/status.
func (v *verifier) status(key string) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid()))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.Fields(rest), nil
		}
	}
	return nil, fmt.Errorf("/proc/%d/status has no line %s", v.pid(), key)
}

func (v *verifier) processUser(context.Context) outcome {
	uids, err := v.status("Uid")
	if err != nil {
		return unknown(said(err.Error()), remedyRoot)
	}
	want := strconv.FormatUint(uint64(v.t.Facts.ServiceUID), 10)
	for _, uid := range uids { // real, effective, saved, file system
		if uid != want {
			return fail(fmt.Sprintf("process %d has the uids %s, not %s", v.pid(), strings.Join(uids, " "), want),
				"end it, and start the gateway as "+v.t.ServiceUser)
		}
	}
	return pass(fmt.Sprintf("process %d: real, effective, saved and file uid are %s", v.pid(), want))
}

func (v *verifier) processProgram(context.Context) outcome {
	link := fmt.Sprintf("/proc/%d/exe", v.pid())
	name, err := os.Readlink(link)
	if err != nil {
		return unknown(said(err.Error()), remedyRoot)
	}
	want := v.expectedProgram()
	problem, err := v.walk.file(want)
	if err != nil || problem != "" {
		return unknown("the installed daemon: "+said(fmt.Sprint(problem, err)), "sudo -k carapace-setup repair")
	}
	// The name in the link is the kernel's memory of a path; the file behind it
	// is compared by what cannot be renamed.
	var runs, installed unix.Stat_t
	if err := unix.Stat(link, &runs); err != nil {
		return unknown(said(err.Error()), remedyRoot)
	}
	real, err := filepath.EvalSymlinks(want)
	if err == nil {
		err = unix.Stat(real, &installed)
	}
	switch {
	case err != nil:
		return unknown(said(err.Error()), remedyRoot)
	case runs.Dev != installed.Dev || runs.Ino != installed.Ino:
		return fail(fmt.Sprintf("process %d runs %s, not %s", v.pid(), said(name), want), "start the gateway anew; after an upgrade this is the old program")
	}
	return pass(want)
}

func (v *verifier) processCore(context.Context) outcome {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", v.pid()))
	if err != nil {
		return unknown(said(err.Error()), remedyRoot)
	}
	limit := ""
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			limit = strings.Join(strings.Fields(rest), " ")
		}
	}
	// The files of a process that may not be dumped are root's.
	info, err := os.Stat(fmt.Sprintf("/proc/%d/environ", v.pid()))
	if err != nil {
		return unknown(said(err.Error()), remedyRoot)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	dumpable := !ok || st.Uid != 0
	pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
	const remedy = "LimitCORE=0 in the unit; sudo -k carapace-setup repair"
	switch {
	case !dumpable:
		return pass("the process may not be dumped; core limit " + limit)
	case !strings.HasPrefix(limit, "0 0"):
		return fail("the core limit is "+said(limit)+", and the process may be dumped", remedy)
	case strings.HasPrefix(string(pattern), "|"):
		// The kernel asks a program in core_pattern whatever the limit says.
		return warn("the core limit is 0, but crashes are handed to a program: "+said(string(pattern)),
			"see that this program honours the limit, as systemd-coredump does")
	}
	return pass("core limit 0")
}

// processTrace passes on EPERM, or where the kernel lets nobody attach.
func (v *verifier) processTrace(ctx context.Context) outcome {
	a, err := v.must(ctx, v.t.client(), []op{{Do: doTrace, PID: v.pid()}})
	if err != nil {
		return v.couldNot(err)
	}
	// Yama's scopes 2 and 3 forbid the control as well; that is the kernel's
	// word, and no failure of the probe.
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if s := strings.TrimSpace(string(scope)); err == nil && (s == "2" || s == "3") &&
		a.results[0].Errno == "EPERM" && a.control[doTrace].Errno == "EPERM" {
		return pass("EPERM; no user may attach to anything here (ptrace_scope " + s + ")")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unknown(said(err.Error()), remedyRoot)
	}
	return a.outcome(v.startRemedy(), "EPERM")
}

// processMemory names other errors where /proc hides the processes of others:
// EPERM for hidepid=1, ENOENT for hidepid=2 and above.
func (v *verifier) processMemory(ctx context.Context) outcome {
	want := []string{"EACCES"}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return unknown(said(err.Error()), remedyRoot)
	}
	switch hidepid(string(mounts)) {
	case "1", "noaccess":
		want = append(want, "EPERM")
	case "2", "invisible", "4", "ptraceable":
		want = append(want, "ENOENT")
	}
	return v.refused(ctx, v.t.client(), v.memoryOps(), v.startRemedy(), want...)
}

// hidepid is the option of that name with which /proc is mounted.
func hidepid(mounts string) string {
	value := ""
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 || f[1] != "/proc" || f[2] != "proc" {
			continue
		}
		value = "" // a later mount covers an earlier one
		for opt := range strings.SplitSeq(f[3], ",") {
			if v, ok := strings.CutPrefix(opt, "hidepid="); ok {
				value = v
			}
		}
	}
	return value
}
