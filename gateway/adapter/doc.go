// Package adapter runs tools: once for each command (OneShot), or kept alive
// and asked over line-delimited JSON-RPC (Resident).
//
// It promises a clean child: absolute path, an environment it wrote itself,
// no inherited descriptors, its own process group, no core dumps, a deadline,
// and an output bound past which the child is killed. It promises that no
// command is given to a tool twice.
//
// It refuses a tool that is a link, that is not a regular file, or that (or a
// parent of which) anybody but root can write.
package adapter
