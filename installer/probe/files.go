package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// findAbsent establishes which protected objects exist at all, for an attempt
// to open nothing proves nothing. What lies below the service user's folders
// is looked at by a child that runs as the service user; without root nobody
// can say, and the exact errno has to do.
func (v *verifier) findAbsent(ctx context.Context) {
	v.absent = map[string]string{}
	if !v.root {
		return
	}
	p := v.t.Paths
	if p.Receipt != "" {
		// Its folder is root's, or it is refused as evidence below.
		if problem, err := v.walk.folder(filepath.Dir(p.Receipt)); err == nil && problem == "" {
			_, err = v.walk.files.Lstat(p.Receipt)
			if errors.Is(err, fs.ErrNotExist) {
				v.absent[p.Receipt] = p.Receipt + " is not there"
			}
		}
	}
	var ops []op
	for _, path := range []string{p.Home, p.State, p.Config, p.Secrets, p.Audit} {
		if path != "" {
			ops = append(ops, op{Do: doLstat, Path: path})
		}
	}
	if v.serviceErr != nil || len(ops) == 0 {
		return
	}
	who := ident{name: v.service.Name, uid: v.service.UID, gid: v.service.GID}
	ans, err := v.ask(ctx, who, ops)
	for i, o := range ops {
		switch {
		case err != nil:
			v.absent[o.Path] = fmt.Sprintf("whether %s exists: %s", o.Path, said(err.Error()))
		case ans.Results[i].Errno != "":
			v.absent[o.Path] = fmt.Sprintf("%s cannot be seen by %s itself: %s", o.Path, who.name, described(ans.Results[i]))
		}
	}
}

// checkInstallation is about what everything else rests on: the facts and the
// receipt, and the program that runs as the probes.
func (v *verifier) checkInstallation(ctx context.Context) {
	v.add(ctx, Check{ID: "install.facts", Title: "what the installation says about itself is root's alone", Severity: Critical}, func(context.Context) outcome {
		if v.t.Prefix == "" {
			return unknown("no prefix is known", "sudo -k carapace-setup repair")
		}
		return v.rootAlone(filepath.Join(v.t.Prefix, "share", "install.json"))
	})
	v.add(ctx, Check{ID: "install.probe", Title: "the probes run a program that is root's alone", Severity: Critical}, func(context.Context) outcome {
		if v.programErr != nil {
			return fail(said(v.programErr.Error()), "run the installed carapace-setup: sudo "+filepath.Join(v.t.Paths.Bin, "carapace-setup")+" verify")
		}
		if problem, err := v.walk.file(v.program); err != nil || problem != "" {
			return warn("this is "+said(v.program)+", which is not: "+said(problem), "run the installed one, in "+v.t.Paths.Bin)
		}
		return pass(v.program)
	})
	v.addRoot(ctx, Check{ID: "install.receipt", Title: "the receipt is root's alone to read and to write", Severity: High}, func(context.Context) outcome {
		path := v.t.Paths.Receipt
		if path == "" {
			return unknown("no receipt is known", "sudo -k carapace-setup repair")
		}
		o := v.rootAlone(path)
		if o.class != Pass {
			return o
		}
		info, err := v.walk.files.Lstat(path)
		if err != nil {
			return unknown(said(err.Error()), "sudo -k carapace-setup repair")
		}
		if info.Mode != 0o600 {
			return fail(fmt.Sprintf("%s has mode %04o", path, info.Mode), "sudo -k chmod 600 "+path)
		}
		return pass(path + " is root's, 0600")
	})
}

// rootAlone is the outcome of looking at one file and its parents.
func (v *verifier) rootAlone(path string) outcome {
	problem, err := v.walk.file(path)
	switch {
	case err != nil:
		return unknown(said(err.Error()), "sudo -k carapace-setup repair")
	case problem != "":
		return fail(said(problem), "sudo -k chown root and chmod go-w that folder or file, then: sudo -k carapace-setup repair")
	}
	return pass(path + " and its parents")
}

// installed is every program, tool and fact of the installation, and the
// folders they are in.
type installed struct {
	files, folders []string
	problem        string
	err            error
}

func (v *verifier) installed() installed {
	var all installed
	p := v.t.Paths
	share := ""
	if v.t.Prefix != "" {
		share = filepath.Join(v.t.Prefix, "share")
	}
	for _, top := range []string{p.Bin, p.Libexec, p.Tools, share} {
		if top == "" {
			continue
		}
		files, folders, problem, err := v.walk.tree(top)
		all.files, all.folders = append(all.files, files...), append(all.folders, folders...)
		if all.problem == "" {
			all.problem = problem
		}
		if all.err == nil {
			all.err = err
		}
	}
	for _, f := range v.t.Facts.Files {
		if path := v.installedPath(f.Path); !slices.Contains(all.files, path) {
			problem, err := v.walk.file(path)
			if all.problem == "" {
				all.problem = problem
			}
			if all.err == nil {
				all.err = err
			}
			all.files = append(all.files, path)
		}
		if dir := filepath.Dir(v.installedPath(f.Path)); !slices.Contains(all.folders, dir) {
			all.folders = append(all.folders, dir)
		}
	}
	if v.t.Prefix != "" && !slices.Contains(all.folders, v.t.Prefix) {
		all.folders = append(all.folders, v.t.Prefix)
	}
	return all
}

// installedPath is where a file of install.json is: its paths may be below the
// prefix.
func (v *verifier) installedPath(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(v.t.Prefix, path)
}

// mostTried bounds the attempts on one kind of object. A vault with a Java
// tree has thousands of files, whose owners have all been read by then.
const mostTried = 400

func first(list []string) []string { return list[:min(len(list), mostTried)] }

// checkCode is about what runs as root or as the service user: who can change
// it owns both.
func (v *verifier) checkCode(ctx context.Context) {
	all := v.installed()
	repair := "sudo -k chown -R root:root and chmod -R go-w what is named, find out what was changed, then: sudo -k carapace-setup repair"
	v.add(ctx, Check{ID: "code.owners", Title: "every program and tool, and every folder above them, is root's alone", Severity: Critical}, func(context.Context) outcome {
		switch {
		case all.problem != "":
			return fail(said(all.problem), repair)
		case all.err != nil:
			return unknown(said(all.err.Error()), "sudo -k carapace-setup repair")
		case len(all.files) == 0:
			return unknown("no installed program is known", "sudo -k carapace-setup repair")
		}
		return pass(fmt.Sprintf("%d files in %d folders, up to /", len(all.files), len(all.folders)))
	})
	v.add(ctx, Check{ID: "code.hashes", Title: "the programs are the ones that were installed", Severity: Critical}, v.hashes)
	v.add(ctx, Check{ID: "code.write", Title: "the client cannot change a program, a tool or the facts", Severity: Critical}, func(ctx context.Context) outcome {
		var ops []op
		for _, f := range first(all.files) {
			ops = append(ops, op{Do: doWrite, Path: f}, op{Do: doRemove, Path: f})
		}
		for _, d := range first(all.folders) {
			ops = append(ops, op{Do: doCreate, Path: d})
		}
		return v.refused(ctx, v.t.client(), ops, repair, "EACCES")
	})
	if len(v.t.Paths.Units) == 0 { // no service manager, nothing that it would start
		return
	}
	v.add(ctx, Check{ID: "unit.owners", Title: "the service definitions, and every folder above them, are root's alone", Severity: Critical}, func(context.Context) outcome {
		for _, u := range v.t.Paths.Units {
			if o := v.rootAlone(u); o.class != Pass {
				return o
			}
		}
		return pass(fmt.Sprintf("%d definitions", len(v.t.Paths.Units)))
	})
	v.add(ctx, Check{ID: "unit.write", Title: "the client cannot change a service definition", Severity: Critical}, func(ctx context.Context) outcome {
		var ops []op
		folders := map[string]bool{}
		for _, u := range v.t.Paths.Units {
			ops = append(ops, op{Do: doWrite, Path: u}, op{Do: doRemove, Path: u})
			if !folders[filepath.Dir(u)] {
				folders[filepath.Dir(u)] = true
				ops = append(ops, op{Do: doCreate, Path: filepath.Dir(u)})
			}
			if _, err := v.walk.files.Lstat(u + ".d"); err == nil { // drop-ins of the administrator
				ops = append(ops, op{Do: doCreate, Path: u + ".d"})
			}
		}
		return v.refused(ctx, v.t.client(), ops, repair, "EACCES")
	})
}

// hashes reads what install.json names. A file whose path others than root can
// change is not opened.
func (v *verifier) hashes(context.Context) outcome {
	if len(v.t.Facts.Files) == 0 {
		return unknown("install.json names no file", "sudo -k carapace-setup repair")
	}
	var wrong, unread []string
	for _, f := range v.t.Facts.Files {
		path := v.installedPath(f.Path)
		problem, err := v.walk.file(path)
		var sum string
		if err == nil && problem == "" {
			sum, err = v.walk.files.Hash(path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, path+" is gone")
		case err != nil:
			unread = append(unread, said(err.Error()))
		case problem != "":
			unread = append(unread, "not read, because "+said(problem))
		case !strings.EqualFold(sum, f.SHA256):
			wrong = append(wrong, path+" is another file than the installed one")
		}
	}
	const remedy = "find out what was changed, and by whom; then: sudo -k carapace-setup repair"
	switch {
	case len(wrong) > 0:
		return fail(few(wrong), remedy)
	case len(unread) > 0:
		return unknown(few(unread), remedy)
	}
	return pass(fmt.Sprintf("%d files", len(v.t.Facts.Files)))
}

// folderOps and fileOps are everything a stranger to an object must not be
// able to do with it.
func folderOps(path string) []op {
	return []op{{Do: doList, Path: path}, {Do: doCreate, Path: path}}
}

func fileOps(path string) []op {
	return []op{{Do: doOpen, Path: path}, {Do: doWrite, Path: path}, {Do: doRemove, Path: path}, {Do: doCreate, Path: filepath.Dir(path)}}
}

// secret is a protected object.
type secret struct {
	id, title, path string
	ops             func(string) []op
	severity        Severity
	remedy          string
}

func (v *verifier) secrets() []secret {
	p := v.t.Paths
	own := func(path, mode string) string {
		return fmt.Sprintf("sudo -k chown %s: %s && sudo -k chmod %s %s", v.t.ServiceUser, path, mode, path)
	}
	roots := func(path, mode string) string {
		return fmt.Sprintf("sudo -k chown root:%s %s && sudo -k chmod %s %s", v.t.ServiceUser, path, mode, path)
	}
	return []secret{
		{"file.home", "the client cannot look into the home of the service user", p.Home, folderOps, Critical, own(p.Home, "700")},
		{"file.state", "the client cannot look into the state of the gateway", p.State, folderOps, Critical, own(p.State, "700")},
		{"file.audit", "the client cannot look into the audit log", p.Audit, folderOps, Critical, own(p.State, "700")},
		{"file.config", "the client cannot read or change the configuration", p.Config, fileOps, Critical, roots(p.Config, "640")},
		{"file.secrets", "the client cannot look into the secrets", p.Secrets, folderOps, Critical, roots(p.Secrets, "750")},
		{"file.receipt", "the client cannot read or change the receipt", p.Receipt, fileOps, Critical, "sudo -k chown root: " + p.Receipt + " && sudo -k chmod 600 " + p.Receipt},
	}
}

// checkFiles is about what must stay with the service user and root.
func (v *verifier) checkFiles(ctx context.Context) {
	for _, s := range v.secrets() {
		v.add(ctx, Check{ID: s.id, Title: s.title, Severity: s.severity}, func(ctx context.Context) outcome {
			if s.path == "" {
				return unknown("its place is not known", "sudo -k carapace-setup repair")
			}
			return v.refused(ctx, v.t.client(), s.ops(s.path), s.remedy, "EACCES")
		})
	}
	v.add(ctx, Check{ID: "file.spool", Title: "the client can change no spool and read no other client's", Severity: High}, func(ctx context.Context) outcome {
		root := v.t.Paths.SpoolRoot
		if root == "" {
			return unknown("its place is not known", "sudo -k carapace-setup repair")
		}
		ops := []op{{Do: doCreate, Path: root}, {Do: doCreate, Path: filepath.Join(root, v.t.Client)}}
		for _, other := range v.spools(root) {
			if other != v.t.Client {
				ops = append(ops, folderOps(filepath.Join(root, other))...)
			}
		}
		return v.refused(ctx, v.t.client(), ops, "sudo -k carapace-setup repair", "EACCES")
	})
}

// spools names the folders below the spool: all of them where root may look,
// else those of the clients that install.json names.
func (v *verifier) spools(root string) []string {
	names := slices.Clone(v.t.Facts.Clients)
	if problem, err := v.walk.folder(root); !v.root || problem != "" || err != nil {
		return names
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return names
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(names, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}
