package wire

// Version is the release of Carapace that this tree is. It stands here because
// every program, on both sides of the socket, already links this package.
const Version = "0.1.0"
