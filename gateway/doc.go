// Package gateway is the map of the gateway daemon: no code, only prose, and
// the test that keeps the map true.
//
// The daemon (carapaced) runs as the service user, beside the messaging
// credentials. On the other side of its socket is a client: a person's
// account in which an AI agent runs code and reads this source. Nothing a
// client says is believed. What is believed is what the kernel says about the
// connection: the uid at its other end.
//
// # The way of one request
//
// A request comes in through package wire, which knows framing, bounds and the
// kernel's peer identity and nothing about messages. Package daemon finds the
// channel that the request names and lets it Classify the words into a
// policy.Operation. From here on the words are gone: everything that follows
// sees the Operation alone.
//
//	wire      bytes on a socket  → a bounded, strict request and a Peer
//	channel   a request          → policy.Operation          (Classify)
//	journal   the Operation      → an intent, durable on disk
//	guard     the Operation      → policy.Verdict            (the ordered rules)
//	channel   the Operation      → a command                 (Command)
//	adapter   the command        → the tool's reply, as the service user
//	channel   the reply          → Operations, judged one by one (Inbound)
//	journal   the outcome
//	channel   what passed        → what the client sees      (Render)
//
// The command that runs is written from the Operation that was judged, never
// from the words of the client, so that a disagreement between our parser and
// the tool's cannot be used to reach somebody else. What comes back goes
// through the same rules before a client sees any of it.
//
// # Who stands where
//
// Two packages are leaves and import nothing of ours: wire, which the shims
// link too, and policy, the vocabulary. Above policy, side by side and
// ignorant of each other, stand channel, config, guard and journal; adapter
// stands on channel because it runs what channel wrote. Package daemon is the
// only one that joins them, and cmd/carapaced is a few lines around it.
// cmd/carapacectl is a client of the daemon and links the wire alone; what it
// can do without a daemon, such as explaining a policy, is ctl/offline, which
// the daemon's executable holds.
//
// The other two trees stay apart: the gateway imports neither the installer
// nor the shims, and the shims import only wire, so that no rule is decided on
// the side of the agent. The complete list of packages, of the directions in
// which they may import each other and of who may use which library is
// layers_test.go; a package that is not in it may not exist.
//
// # What it refuses
//
// It denies when it cannot tell: an unknown method, member, command, option or
// parameter; a policy that cannot be read; a record that cannot be made
// durable. It opens no path that a client names, accepts no descriptor that a
// client passes, runs no tool that anybody but root can write, and does not
// run as root.
package gateway
