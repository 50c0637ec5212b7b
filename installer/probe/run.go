package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childTime is how long one child may take for everything it was asked.
const childTime = 10 * time.Second

// errNeedsRoot says that a child of that user can be started by root alone.
var errNeedsRoot = errors.New("only root can try this")

// childEnv is the whole environment of a child.
func childEnv() []string {
	return []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/", "LC_ALL=C"}
}

// ask runs one child as who and returns what came of its attempts.
func (v *verifier) ask(ctx context.Context, who ident, ops []op) (answer, error) {
	if v.programErr != nil {
		return answer{}, v.programErr
	}
	if len(ops) == 0 {
		return answer{}, errors.New("there is nothing to try")
	}
	if !v.root && who.uid != uint32(os.Geteuid()) {
		return answer{}, errNeedsRoot
	}
	if who.uid == 0 {
		return answer{}, errors.New("a probe does not run as root")
	}
	control, done, err := v.controlFolder(ctx, who)
	if err != nil {
		return answer{}, fmt.Errorf("make a folder for the controls: %w", err)
	}
	defer done()
	body, err := json.Marshal(request{Protocol: protocol, Control: control, Program: v.program, Ops: ops})
	if err != nil {
		return answer{}, err
	}
	out, err := v.start(ctx, who, body)
	if err != nil {
		return answer{}, err
	}
	var ans answer
	if err := json.Unmarshal(out, &ans); err != nil {
		return answer{}, fmt.Errorf("the probe's answer is not one: %w", err)
	}
	if err := v.credible(who, ops, ans); err != nil {
		return answer{}, err
	}
	return ans, nil
}

// credible holds an answer against what was asked for: a child that ran with
// other ids than meant has shown nothing.
func (v *verifier) credible(who ident, ops []op, ans answer) error {
	if ans.Protocol != protocol || len(ans.Results) != len(ops) {
		return errors.New("the probe's answer is incomplete")
	}
	if ans.UID != who.uid {
		return fmt.Errorf("the probe ran as uid %d, not %d", ans.UID, who.uid)
	}
	if !v.root {
		return nil // the caller has the groups of its session, whatever the lists say
	}
	want := map[int]bool{int(who.gid): true}
	for _, g := range who.groups {
		want[int(g)] = true
	}
	for _, g := range ans.Groups {
		if !want[g] {
			return fmt.Errorf("the probe ran with group %d, which it was not given", g)
		}
		delete(want, g)
	}
	delete(want, int(ans.GID))
	if ans.GID != who.gid || len(want) != 0 {
		return errors.New("the probe ran without a group that it was given")
	}
	return nil
}

// start runs the child itself.
func (v *verifier) start(ctx context.Context, who ident, stdin []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, childTime)
	defer cancel()
	// What a shell or a service manager left open for us is not for the child.
	if err := closeOnExec(); err != nil {
		return nil, fmt.Errorf("keep descriptors from the probe: %w", err)
	}
	args := []string{Subcommand}
	if v.root {
		// It starts as root and becomes who itself: a process that changes its
		// user cannot be traced by that user, one that is started as him can,
		// until it hides.
		args = append(args, become(who)...)
	}
	cmd := exec.CommandContext(ctx, v.program, args...)
	cmd.Env = childEnv()
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bounded
	stdout.max, stderr.max = maxAnswer, 4<<10
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the probe as %s did not end within %v", who, childTime)
	case err != nil && stderr.Len() > 0:
		return nil, fmt.Errorf("the probe as %s: %w: %s", who, err, said(stderr.String()))
	case err != nil:
		return nil, fmt.Errorf("the probe as %s: %w", who, err)
	case stdout.over:
		return nil, fmt.Errorf("the probe as %s said more than it may", who)
	}
	return stdout.Bytes(), nil
}

// bounded is a buffer that stops growing and knows it.
type bounded struct {
	bytes.Buffer
	max  int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		b.over = true
		return len(p), nil
	}
	return b.Buffer.Write(p)
}

// closeOnExec marks every descriptor above the standard three. Those that a
// child is meant to have are duplicated for it, without the mark.
func closeOnExec() error {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var fd int
		if _, err := fmt.Sscanf(name, "%d", &fd); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// controlParents are folders of root's alone that exist on every system; the
// first that really is root's alone is used.
var controlParents = []string{"/run", "/var/db", "/var/lib"}

// controlFolder makes a fresh folder that belongs to who, below a folder that
// only root can write, and returns how to take it away again. Root puts
// nothing into the folder it has given away, and takes nothing out of it.
func (v *verifier) controlFolder(ctx context.Context, who ident) (string, func(), error) {
	if !v.root {
		dir, err := os.MkdirTemp("", "carapace-probe-")
		if err != nil {
			return "", nil, err
		}
		return dir, func() { os.RemoveAll(dir) }, nil
	}
	var parent string
	for _, p := range controlParents {
		if problem, err := v.walk.folder(p); err == nil && problem == "" {
			parent = p
			break
		}
	}
	if parent == "" {
		return "", nil, fmt.Errorf("none of %v is root's alone", controlParents)
	}
	top, err := os.MkdirTemp(parent, "carapace-probe-")
	if err != nil {
		return "", nil, err
	}
	dir := filepath.Join(top, "c")
	remove := func() {
		unix.Rmdir(dir)
		unix.Rmdir(top)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		remove()
		return "", nil, err
	}
	if err := os.Lchown(dir, int(who.uid), int(who.gid)); err != nil {
		remove()
		return "", nil, err
	}
	// Opened to the world last: until here nobody else could reach the folder.
	if err := os.Chmod(top, 0o711); err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}
