// Package offline is the half of carapacectl that needs no gateway: policy
// check, policy explain and audit verify of a folder. It reads what a person
// named, and the configuration in force, and changes nothing.
//
// It is linked into the daemon's executable (`carapaced ctl …`), for the
// reason given at package ctl; carapacectl replaces itself by it.
package offline

import (
	"context"
	"io"

	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// maxText bounds what is read of a message from standard input.
const maxText = 8 << 20

// Run carries out one command line, without the program's name, and returns
// the exit code. UID is the effective one.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, uid int) int {
	e := &ctl.Env{Args: args, Stdin: stdin, Stdout: stdout, Stderr: stderr, UID: uid}
	return ctl.Run(ctx, e, []ctl.Command{
		ctl.AuditVerify(auditVerify),
		ctl.PolicyCheck(policyCheck),
		ctl.PolicyExplain(policyExplain),
	})
}

func auditVerify(_ context.Context, _ *ctl.Env, dir string) (ctl.Verified, error) {
	if dir == "" {
		return ctl.Verified{}, ctl.Usagef("audit verify", "without a gateway, audit verify needs a DIR")
	}
	report, err := journal.Verify(dir)
	if err != nil {
		return ctl.Verified{}, &ctl.Failure{Code: wire.ExitFailed, Lines: []string{err.Error()}}
	}
	return ctl.Verified{OK: true, Records: report.Records, Head: report.Head}, nil
}
