package probe

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// become is the arguments with which root has a child become who.
func become(who ident) []string {
	groups := make([]string, len(who.groups))
	for i, g := range who.groups {
		groups[i] = strconv.FormatUint(uint64(g), 10)
	}
	return []string{"as", strconv.FormatUint(uint64(who.uid), 10), strconv.FormatUint(uint64(who.gid), 10), strings.Join(groups, ",")}
}

// drop becomes the user that become wrote down, with every id and for good. A
// process that does so is no longer to be traced or dumped by anybody but root
// (credentials(7), ptrace(2); on macOS P_SUGID), so that there is no moment in
// which the user could reach into it.
func drop(args []string) error {
	uid, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(args[1], 10, 32)
	if err != nil {
		return err
	}
	groups := []int{}
	if args[2] != "" {
		for _, text := range strings.Split(args[2], ",") {
			g, err := strconv.ParseUint(text, 10, 32)
			if err != nil {
				return err
			}
			groups = append(groups, int(g))
		}
	}
	if uid == 0 || gid == 0 {
		return fmt.Errorf("uid %d, gid %d: a probe does not run as root", uid, gid)
	}
	// The user last: without root nothing else could be changed.
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups %v: %w", groups, err)
	}
	if err := syscall.Setgid(int(gid)); err != nil {
		return fmt.Errorf("set gid %d: %w", gid, err)
	}
	if err := syscall.Setuid(int(uid)); err != nil {
		return fmt.Errorf("set uid %d: %w", uid, err)
	}
	return nil
}
