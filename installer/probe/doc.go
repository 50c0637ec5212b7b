// Package probe answers the one question that matters after an installation:
// is the isolation real? It is what `carapace-setup verify` does, and what an
// install must survive before it may call itself done.
//
// # Trying, not reading
//
// A mode bit says what somebody intended; the kernel says what is. So wherever
// an attempt is harmless it is made, by a child: the installed program, which
// root alone can change, run again as somebody else. As the client it tries to
// open, list, write and replace what it must not, to signal and trace the
// daemon, to become root without a password; as nobody it tries to connect.
// The child has a session of its own, no descriptors but its pipes, an
// environment of three words, / as its folder, exactly the groups it is given,
// and ten seconds. It is asked and answers in JSON.
//
// Every attempt is chosen so that it does no harm when it succeeds: files are
// opened for writing and closed, a file is made under a name that cannot exist
// and removed, a *file* is given to rmdir(2), which the kernel refuses only
// after it has looked at the permission.
//
// # What counts
//
// An attempt that must fail passes on the exact error named for it and on no
// other, and only when its control succeeded: the same code, by the same
// child, on an object which that user may use. A missing file, a broken probe,
// a system that knows the call by another name are all "unknown", never
// "pass". What an attempt cannot show (that every parent of every program is
// root's alone, that the programs are the ones that were installed) is read,
// from the root down.
//
// Without root, the client's own checks run as the caller and the rest are
// unknown, with the command that would run them.
//
// # Refusals
//
// Root itself opens, writes and runs nothing below a folder that a client or
// the service user can write: whether a protected object exists at all is
// asked of a child that runs as the service user. Child does nothing as root
// but become somebody else.
// A report holds no content of any file, no hash of a password, no text of a
// message; what other programs said is shown escaped and cut short.
//
// # What it cannot see
//
// A child that runs as the client can be interfered with by other programs of
// that client: they can end it, or spoil its controls, and a check is unknown
// then. They cannot make it lie: started by root it becomes the client itself,
// which keeps it closed to them from its first moment. A verify that the
// client starts is the client's own, and tells the client only.
// What was read once can have been changed since: a report is about the moment
// in which it was made.
package probe
