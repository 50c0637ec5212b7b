// Package daemon joins the parts of the gateway: it listens, asks the kernel
// who is calling, reads the call into an operation, has it judged, has it
// recorded, runs it, judges what came back and answers. It is the only package
// that imports the others.
//
// The way of one call is one straight function, operate in call.go:
//
//	classify → resolve → decide → record the intent → act → record the outcome → render
//
// # Promises
//
// Nothing with an effect is dispatched before its intent is durable in the
// audit log, and nothing is dispatched twice. An operation whose intent has no
// outcome after a crash becomes interrupted: a person decides. A refusal is in
// the audit log before the client hears of it. Nothing that a tool returned is
// shown before it was judged.
//
// # Refusals
//
// The daemon does not start as root, on a folder it does not own, on a
// configuration that it cannot read whole, or on an audit log that does not
// verify. A policy that permits more than the last accepted one is not taken
// without a person's word. When the audit log cannot be written, everything
// that has an effect is refused and the daemon stays up to say so.
package daemon
