package probe

import (
	"context"
	"fmt"
	"path/filepath"
)

// checkProcess is about the running daemon: whom it runs as, and what the
// client can do to it.
func (v *verifier) checkProcess(ctx context.Context) {
	v.add(ctx, Check{ID: "process.user", Title: "the daemon runs as the service user, and as nobody else", Severity: Critical}, v.daemon(v.processUser))
	v.addRoot(ctx, Check{ID: "process.program", Title: "the daemon is the installed program", Severity: High}, v.daemon(v.processProgram))
	v.addRoot(ctx, Check{ID: "process.core", Title: "the daemon leaves no core dumps", Severity: Medium}, v.daemon(v.processCore))
	v.add(ctx, Check{ID: "process.signal", Title: "the client cannot signal the daemon", Severity: Critical}, v.daemon(func(ctx context.Context) outcome {
		return v.refused(ctx, v.t.client(), []op{{Do: doSignal, PID: v.pid()}}, v.startRemedy(), "EPERM")
	}))
	v.add(ctx, Check{ID: "process.trace", Title: "the client cannot attach to the daemon", Severity: Critical}, v.daemon(v.processTrace))
	v.add(ctx, Check{ID: "process.memory", Title: "the client cannot read the memory or the environment of the daemon", Severity: Critical}, v.daemon(v.processMemory))
}

func (v *verifier) pid() int { return int(v.server.PID) }

// daemon wraps a check that needs the daemon's process: the one that the
// kernel says listens at the socket.
func (v *verifier) daemon(run func(context.Context) outcome) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		if o, away := v.away(); away {
			return o
		}
		if v.pid() <= 1 {
			return unknown("the kernel does not say which process listens", "run verify in the same pid namespace as the gateway")
		}
		return run(ctx)
	}
}

// memoryFiles are the files of /proc/PID that show the inside of a process.
var memoryFiles = []string{"mem", "environ", "maps", "auxv"}

func (v *verifier) memoryOps() []op {
	var ops []op
	for _, f := range memoryFiles {
		ops = append(ops, op{Do: doMemory, Path: fmt.Sprintf("/proc/%d/%s", v.pid(), f)})
	}
	return append(ops, op{Do: doFds, Path: fmt.Sprintf("/proc/%d/fd", v.pid())})
}

// expectedProgram is what the daemon must be running.
func (v *verifier) expectedProgram() string { return filepath.Join(v.t.Paths.Libexec, "carapaced") }
