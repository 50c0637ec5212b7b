// Bench measures what Carapace costs its user, side by side in one run with
// what it is compared to: the start of an empty Go program, `sudo -n -u` of the
// same tool, a round trip on a bare socket, one durable append to a file.
//
// It promises a fair table: the measures are taken in turns (A B C, B C A, …)
// after a warm-up, so that what else the machine does falls on all of them
// alike; the numbers are medians of the same rounds; and a run that did not do
// what it should (a send that was not sent) ends the bench in place of
// counting. With root it makes a gateway of its own, with throw-away accounts
// and a folder that root alone owns, and takes all of it away again, also when
// it is interrupted.
//
// It refuses to measure durability on a file system in memory, and to touch an
// installation: what it starts knows only its own paths.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// The measures, by name: what the table and the aims are written with.
const (
	empty   = "an empty Go program"
	ping    = "carapacectl ping, answered"
	answer  = "imsg --version through the shim, answered"
	refused = "imsg send through the shim, refused"
	allowed = "imsg send through the shim, sent"
	sudo    = "sudo -n -u of the same tool"
	socket  = "a raw socket: dial, round trip"
	durable = "a raw append + fdatasync"
)

func main() {
	os.Exit(run())
}

func run() int {
	dist := flag.String("dist", "dist", "folder of the built programs")
	parts := flag.String("parts", "", "folder of the programs empty and imsg (the stand-in tool)")
	runs := flag.Int("runs", 60, "rounds to measure, at least 50")
	warm := flag.Int("warm", 5, "rounds to run before that")
	dir := flag.String("dir", "/var/lib", "a folder of root's on a real disk, for the gateway of this bench")
	flag.Parse()
	if *runs < 50 {
		fmt.Fprintln(os.Stderr, "bench: a median of fewer than 50 runs says little; -runs must be at least 50")
		return 64
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := bench(ctx, *dist, *parts, *dir, *warm, *runs); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

func bench(ctx context.Context, dist, parts, dir string, warm, runs int) (err error) {
	var undo cleanup
	defer func() { err = errors.Join(err, undo.run()) }()

	root := os.Geteuid() == 0
	if !root {
		// Without root: a folder of our own, for what needs no other account.
		if dir, err = os.MkdirTemp(cmp.Or(os.Getenv("TMPDIR"), "."), ".carapace-bench-"); err != nil {
			return err
		}
		undo.add(func() error { return os.RemoveAll(dir) })
	}
	fs, err := fileSystem(dir)
	if err != nil {
		return err
	}
	fmt.Printf("%s/%s, %d CPUs, %s; %s is on %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), dir, fs.name)

	var all []measure
	var skipped []string
	var as *syscall.SysProcAttr // whom programs run as; nil: the caller
	var own *rig
	if root {
		if own, err = newRig(ctx, &undo, dist, parts, dir); err != nil {
			return err
		}
		as = own.asClient()
		dir = own.base
		all = append(all, own.measures()...)
		skipped = append(skipped, own.skipped...)
	} else {
		skipped = append(skipped, "everything that crosses an account needs root: sudo env \"PATH=$PATH\" go tool mage bench")
	}

	if program := filepath.Join(parts, "empty"); exists(program) {
		if root {
			if program, err = install(program, filepath.Join(dir, "bin", "empty"), 0o755); err != nil {
				return err
			}
		}
		all = append([]measure{{empty, func(ctx context.Context) error {
			return start(ctx, as, nil, 0, program)
		}}}, all...)
	}
	m, err := socketMeasure(filepath.Join(dir, "raw.sock"), &undo)
	if err != nil {
		return err
	}
	all = append(all, m)
	if fs.memory {
		skipped = append(skipped, durable+": "+fs.name+" keeps its files in memory; -dir names another folder")
	} else {
		m, err := appendMeasure(filepath.Join(dir, "raw.log"), &undo)
		if err != nil {
			return err
		}
		all = append(all, m)
	}

	fmt.Printf("%d rounds after %d to warm up, in turns\n\n", runs, warm)
	begin := time.Now()
	results, err := interleave(ctx, all, warm, runs)
	if err != nil {
		if root && ctx.Err() == nil {
			fmt.Printf("the gateway said:\n%s\n", own.logged())
		}
		return err
	}
	if root {
		want := warm + runs
		if own.sudo != "" {
			want *= 2
		}
		if got, err := own.delivered(); err != nil || got != want {
			return fmt.Errorf("the tool sent %d messages, not %d: the numbers mean nothing (%v)", got, want, err)
		}
	}
	report(os.Stdout, results)
	for _, s := range skipped {
		fmt.Printf("skipped: %s\n", s)
	}
	fmt.Printf("took %s\n", time.Since(begin).Round(time.Second))
	return nil
}

// cleanup is what must be undone, last thing first.
type cleanup struct{ steps []func() error }

func (c *cleanup) add(f func() error) { c.steps = append(c.steps, f) }

func (c *cleanup) run() error {
	var errs []error
	for i := len(c.steps) - 1; i >= 0; i-- {
		errs = append(errs, c.steps[i]())
	}
	c.steps = nil
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
