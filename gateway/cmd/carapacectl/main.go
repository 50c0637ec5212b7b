// Command carapacectl is how people see and steer the gateway: status, queue,
// audit, policy and lock for its owner; ping, send, status and channels for a
// client.
//
// It decides nothing. What a client may ask goes over the client socket, what
// the owner may ask over the admin socket, and the gateway judges both by the
// kernel's uid. The audit log and the queue are read through the gateway and
// never from the state folder: that folder belongs to the service user, and
// root opens nothing below a folder that somebody else can write. Only policy
// check and explain read a file themselves, and audit verify DIR a folder that
// a person named.
//
// It promises that nothing foreign reaches a terminal raw, that data goes to
// stdout and everything else to stderr, and the exit codes of interface §1.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/carapace-gateway/carapace/gateway/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, &env{
		args:          os.Args[1:],
		stdin:         os.Stdin,
		stdout:        os.Stdout,
		stderr:        os.Stderr,
		uid:           os.Geteuid(),
		discover:      wire.Discover,
		discoverAdmin: wire.DiscoverAdmin,
	})
	stop()
	os.Exit(code)
}
