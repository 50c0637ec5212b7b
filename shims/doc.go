// Package shims is the agent's side: programs that have the name, the
// arguments, the output and the exit codes of a messaging tool, and nothing of
// what the tool can reach.
//
// # What it does
//
// A shim is a messenger. It sends its arguments to the gateway as they are,
// writes what comes back to where the gateway says, and ends with the code
// that the gateway names. Whether a command is understood, permitted and
// carried out is decided behind the socket, where the agent cannot reach. What
// is printed is the gateway's doing too, with three exceptions, because then
// there is nobody else to say it: the gateway cannot be reached, the gateway
// refused before it knew which tool's words to use, and a local file cannot be
// read.
//
// A file that an argument names is opened here, with the rights of the user
// who runs the shim, and travels as bytes. The gateway never sees a path, so it
// cannot be made to open one with its own rights.
//
// # What it promises
//
// It says nothing to a server that does not run as the service user. It ends
// within two seconds when no gateway answers. It reads its standard input only
// for tools that do. It is believed in nothing: an agent that replaces it, or
// speaks to the socket without it, gains nothing.
//
// # What it costs
//
// Every command of the agent starts it, so its start is what a user feels. It
// links neither net/http nor crypto/tls, and the package test holds the list
// of what it may not link.
package shims
