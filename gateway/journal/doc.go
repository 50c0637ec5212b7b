// Package journal is the gateway's memory: the audit log, which alone says
// what happened, and the outbox, which holds what waits for a person.
//
// # The audit log
//
// It is a folder of six files, the service user's alone: entries has one line
// of JSON a record; hashes has the Merkle tree over those lines (the leaf is
// the line without its newline, the order that of golang.org/x/mod/sumdb/tlog);
// checkpoints has one signed note (C2SP tlog-checkpoint) every so many records
// and at each start and stop; key and key.pub are what signs them and what
// others verify them with; lock is held by the one process that has the log
// open.
//
// It promises:
//   - Record returns when the record is on the disk: fdatasync on Linux,
//     F_FULLFSYNC on macOS. Records that come together share one; one that comes
//     alone waits for nothing but its own.
//   - Records are numbered from 0 without a gap, and no time is before the one
//     above it: a clock that went back is taken as standing.
//   - A record that was changed, removed, inserted or moved is found and named
//     by Verify, and by Open, which then refuses: below the last checkpoint by
//     the signature, above it by the stored hashes. A whole folder put back to
//     an older state of itself is found by VerifyWitness alone.
//   - What was acknowledged once is never changed. What a crash left behind the
//     last record, a line that does not end or blocks that were never written,
//     was not acknowledged and is cut off.
//   - No string in it is longer than its bound, not UTF-8, or able to play
//     tricks on a terminal.
//
// It refuses to guess what the disk has. When a write fails (the disk is full)
// the file is cut back to what was durable before, and if that succeeds and is
// durable itself, only the records of that write failed, each with an error, and
// an error denies; the next Record tries again, so that nobody has to restart a
// gateway because a disk was full for an hour. When the cutting back fails, or
// any fsync does, the log takes nothing more until it was opened, and so read
// and verified, again: after a failed fsync the kernel may call pages clean
// that never reached the disk. Err says so.
//
// Notes are not waited for. Those of a write that failed and was undone are
// kept and written first when writing works again; until then no more are
// taken.
//
// # The outbox
//
// It is one SQLite database of letters. It promises that a letter that was
// added is on the disk, that a letter goes from one state to another only if it
// was in the first, that letters which wait for a person give way to no other,
// and that what was deleted is overwritten. It is bounded in letters and bytes.
//
// It refuses to be a second truth: whoever cannot find a letter asks the audit
// log. So a damaged database is moved aside, whole, and an empty one begun.
package journal
