// Package wire is the conversation between a client and the gateway: how one
// message is framed, what an error means, who is at the other end, and how a
// file travels. Both halves are here, because a border with two descriptions
// is two borders.
//
// # The protocol
//
// JSON-RPC 2.0 (interface §5), one object a line, UTF-8. A line ends with a
// newline and is at most Limits.MaxMessage bytes long. Nesting is at most 32
// deep. A request has the members jsonrpc ("2.0"), id (a string or an integer
// without fraction or exponent), method, and optionally params (an object).
//
// What the server does with a line that is not such a request is fixed:
//
//   - not JSON, not UTF-8, a lone surrogate: error -32700 with id null; the
//     server goes on at the next newline. Too many such lines in a row close
//     the connection.
//   - a batch, a duplicate key, too deep, an unknown or missing member of the
//     envelope: error -32600; the server goes on at the next newline.
//   - no id: a client has nothing to announce, and a request that cannot be
//     answered cannot be refused visibly either. Error -32600 with id null, and
//     the connection is closed.
//   - too long: error -32600 with id null, and the connection is closed, for
//     the place of the next request is unknown.
//   - not complete within Limits.LineTimeout of its first byte: closed. A
//     connection may be silent between lines for as long as it likes.
//   - a passed descriptor: the descriptor and the connection are closed.
//
// A connection over a limit, or of a user who is not admitted, is answered
// with one error line (id null) and closed, and no other connection notices.
// Requests of one connection run concurrently, at most Limits.MaxInFlight of
// them, and at most Limits.MaxRunPerUID of one user over all its connections;
// past that the server stops reading until one has ended. A request counts
// until its answer is written, so that a client that does not read cannot pile
// up answers. The requests
// file.open, file.data and file.close are carried out in the order in which
// they stand. What a handler announces with Notify before it returns comes
// before its answer.
//
// A client that closes its connection cancels what it asked for, and a request
// whose asker is gone before it was started is not started. A client that
// shuts down only its writing half is answered.
//
// # Promises
//
// Identity is the kernel's: PeerOf reads the uid that the socket was opened
// with, on both sides, and a client says nothing before it knows that the
// server runs as the service user. Memory and time that one connection can
// cost are bounded. No bytes make the server panic or stop it from answering
// somebody else.
//
// # Refusals
//
// Nothing is repaired: encoding/json would replace invalid UTF-8, match keys
// in the wrong case, take the last of two equal keys and ignore null; Decode
// refuses all of these. No path that a client names is opened, and no
// descriptor is accepted. Errors carry no internals.
//
// The package is linked by the shim, whose start is paid for by every command
// an agent runs; measured, each of net, crypto/sha256 and log/slog costs a
// tenth of what an empty program takes to start. It therefore imports none of
// them, let alone net/http, and does nothing when it is initialised: sockets
// are system calls, the server's under os.File for the runtime's poller, and
// the client's not even that. Whoever serves has his own logger.
package wire
