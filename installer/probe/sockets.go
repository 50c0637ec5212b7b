package probe

import (
	"context"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// wanted is what a socket or its folder must be, exactly (interface §2).
type wanted struct {
	path     string
	kind     uint32 // S_IFDIR, S_IFSOCK
	uid, gid uint32
	anyGroup bool // a mode that gives the group nothing
	mode     uint32
}

func (w wanted) differs(s *stat) string {
	switch {
	case s == nil:
		return w.path + " was not seen"
	case s.Mode&unix.S_IFMT != w.kind:
		return w.path + " is something else"
	case s.UID != w.uid:
		return fmt.Sprintf("%s belongs to uid %d, not %d", w.path, s.UID, w.uid)
	case !w.anyGroup && s.GID != w.gid:
		return fmt.Sprintf("%s has group %d, not %d", w.path, s.GID, w.gid)
	case s.Mode&0o7777 != w.mode:
		return fmt.Sprintf("%s has mode %04o, not %04o", w.path, s.Mode&0o7777, w.mode)
	}
	return ""
}

// exact asks a child that runs as the client, which may look but not touch,
// whether objects are exactly what they must be.
func (v *verifier) exact(ctx context.Context, all ...wanted) outcome {
	var ops []op
	for _, w := range all {
		ops = append(ops, op{Do: doLstat, Path: w.path})
	}
	ans, err := v.ask(ctx, v.t.client(), ops)
	if err != nil {
		return v.couldNot(err)
	}
	for i, w := range all {
		switch r := ans.Results[i]; {
		case r.Errno == "ENOENT":
			return unknown(w.path+" is not there", v.startRemedy())
		case r.Errno != "":
			return unknown(fmt.Sprintf("%s: %s", w.path, described(r)), remedyRoot)
		default:
			if d := w.differs(r.Stat); d != "" {
				return fail(d, "sudo -k carapace-setup rundir, then start the gateway anew")
			}
		}
	}
	w := all[0]
	if w.anyGroup {
		return pass(fmt.Sprintf("%s is of uid %d, mode %04o", w.path, w.uid, w.mode))
	}
	return pass(fmt.Sprintf("%s is %d:%d, mode %04o", w.path, w.uid, w.gid, w.mode))
}

// checkSockets is about the one door: who may stand before it, who may open
// it, and that nobody can put another door in its place.
func (v *verifier) checkSockets(ctx context.Context) {
	service := v.t.Facts.ServiceUID
	group := func(ctx context.Context) (uint32, error) {
		if v.t.ClientGroupGID != 0 {
			return v.t.ClientGroupGID, nil
		}
		g, err := v.acc.Group(ctx, v.t.clientGroup())
		return g.GID, err
	}
	dir := v.t.Paths.RunDir
	v.add(ctx, Check{ID: "run.folder", Title: "the socket folder is the service's and the client group's, and all above it is root's", Severity: Critical}, func(ctx context.Context) outcome {
		gid, err := group(ctx)
		if err != nil {
			return lookedUp(err)
		}
		problem, err := v.walk.folder(filepath.Dir(dir))
		switch {
		case err != nil:
			return unknown(said(err.Error()), v.startRemedy())
		case problem != "":
			return fail(said(problem), "sudo -k chown root and chmod go-w that folder, then: sudo -k carapace-setup rundir")
		}
		return v.exact(ctx, wanted{path: dir, kind: unix.S_IFDIR, uid: service, gid: gid, mode: 0o750})
	})
	v.add(ctx, Check{ID: "run.socket", Title: "the socket is the service's and the client group's", Severity: Critical}, func(ctx context.Context) outcome {
		gid, err := group(ctx)
		if err != nil {
			return lookedUp(err)
		}
		return v.exact(ctx, wanted{path: v.t.Facts.Socket, kind: unix.S_IFSOCK, uid: service, gid: gid, mode: 0o660})
	})
	v.add(ctx, Check{ID: "run.admin", Title: "the admin socket is the service's alone, and refuses the client", Severity: Critical}, func(ctx context.Context) outcome {
		if o := v.exact(ctx, wanted{path: v.t.Facts.AdminSocket, kind: unix.S_IFSOCK, uid: service, anyGroup: true, mode: 0o600}); o.class != Pass {
			return o
		}
		return v.refused(ctx, v.t.client(), []op{{Do: doConnect, Path: v.t.Facts.AdminSocket}},
			"sudo -k chmod 600 "+v.t.Facts.AdminSocket, "EACCES")
	})
	v.add(ctx, Check{ID: "run.write", Title: "the client can put nothing into the socket folder", Severity: Critical}, func(ctx context.Context) outcome {
		ops := []op{{Do: doCreate, Path: dir}}
		if v.serverErr == nil {
			ops = append(ops, op{Do: doRemove, Path: v.t.Facts.Socket}, op{Do: doRemove, Path: v.t.Facts.AdminSocket})
		}
		return v.refused(ctx, v.t.client(), ops, "sudo -k carapace-setup rundir, then start the gateway anew", "EACCES")
	})
}
