// Command carapacectl is how people see and steer the gateway: status, queue,
// audit, policy and lock for its owner; ping, send, status and channels for a
// client.
//
// It decides nothing. What a client may ask goes over the client socket, what
// the owner may ask over the admin socket, and the gateway judges both by the
// kernel's uid. The audit log and the queue are read through the gateway and
// never from the state folder: that folder belongs to the service user, and
// root opens nothing below a folder that somebody else can write. What can be
// answered without a gateway (policy check and explain, audit verify of a
// folder that a person named) is the other half's, package ctl/offline, by
// which this program replaces itself.
//
// It promises what package ctl does, the exit codes of interface §1, and to
// start in little more than the time of an empty program: agents ping often.
package main

import (
	"context"
	"os"

	"github.com/carapace-gateway/carapace/gateway/ctl"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

func main() {
	a := &app{discover: wire.Discover, discoverAdmin: wire.DiscoverAdmin}
	// No signal is caught: what an interrupt ends has nothing to tidy up.
	os.Exit(ctl.Run(context.Background(), &ctl.Env{
		Args:   os.Args[1:],
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		UID:    os.Geteuid(),
	}, a.commands()))
}
