package probe

import "context"

// checkStranger is about everybody else on the machine, for whom nobody
// stands: no group of ours, no folder of its own.
func (v *verifier) checkStranger(ctx context.Context) {
	who := stranger()
	v.addRoot(ctx, Check{ID: "stranger.connect", Title: "a stranger cannot reach the gateway", Severity: Critical}, func(ctx context.Context) outcome {
		if o, away := v.away(); away { // there would be nothing to be kept from
			return o
		}
		ops := []op{{Do: doConnect, Path: v.t.Facts.Socket}, {Do: doConnect, Path: v.t.Facts.AdminSocket}, {Do: doList, Path: v.t.Paths.RunDir}}
		return v.refused(ctx, who, ops, "sudo -k carapace-setup rundir, then start the gateway anew", "EACCES")
	})
	v.addRoot(ctx, Check{ID: "stranger.files", Title: "a stranger can read nothing that is protected", Severity: Critical}, func(ctx context.Context) outcome {
		var ops []op
		for _, s := range v.secrets() {
			if s.path != "" {
				ops = append(ops, s.ops(s.path)...)
			}
		}
		return v.refused(ctx, who, ops, "see file.home, file.state, file.audit, file.config, file.secrets and file.receipt", "EACCES")
	})
}
