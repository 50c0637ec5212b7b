// Package journal is the gateway's memory: the audit log, which alone says
// what happened, and the outbox, which holds what waits for a person.
//
// The audit log is a Merkle tree over lines of JSON (golang.org/x/mod/sumdb/tlog)
// with signed checkpoints (note). It promises that Record returns only when the
// entry is on disk, that records stand in the order of their seq without gaps,
// and that a changed, removed or inserted record is found by Verify. Records
// that arrive together share one fsync.
//
// It refuses to go on after a failed write: from then on every Record is an
// error, and an error denies.
package journal
