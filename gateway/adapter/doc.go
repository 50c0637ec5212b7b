// Package adapter runs tools: once for each command (OneShot), or kept alive
// and asked over line-delimited JSON-RPC (Resident). Both are a
// channel.Runner.
//
// # What it promises
//
// A clean child: an absolute path that root alone can change, an environment
// written here and not inherited, its own session and process group, nothing
// open but the three standard descriptors, no core dumps, a deadline, and an
// output bound past which the child is killed. However a child ends, its whole
// process group ends with it, and when the daemon dies its children die too
// (on Linux by the kernel's hand; elsewhere a resident child sees the end of
// its input).
//
// The truth about an operation: ErrNotStarted is said only when the tool
// cannot have seen a byte of it, ErrUnknown whenever it may have, and an error
// of the tool's own is a *channel.ToolError. No command is ever given to a tool
// twice, whatever happened to the first attempt.
//
// Bounded everything: queue, line, output, error text, memory of what the
// child said on its standard error. A child that prints a gigabyte costs the
// bound and its life.
//
// # What it refuses
//
// A tool that is a link, that is not a regular file, that has a set-user-ID
// bit, or that (or a folder above which) anybody but root can write. A tool
// that does not match its pinned hash. An environment variable that would make
// a loader or an interpreter run something else.
//
// A program that leaves its process group on purpose, with setsid, also
// leaves our reach; the service unit's own control group is what ends such a
// one. It cannot hold up a caller: the pipes are closed shortly after the tool
// itself ended.
package adapter
