package wire

import "time"

// Limits bound what clients can cost. A zero field means its default.
type Limits struct {
	MaxMessage     int           // bytes of one line, both ways, without its newline
	MaxConnections int           // at once, of all users
	MaxPerUID      int           // at once, of one user
	LineTimeout    time.Duration // from the first byte of a line to its newline
	WriteTimeout   time.Duration // for a client to take one line that it is sent
	MaxInFlight    int           // requests of one connection that run at once
	MaxRunPerUID   int           // requests of one user that run, or whose answers are being written, at once
	Drain          time.Duration // how long running requests may go on once Serve is told to end, before they are cancelled
	FileBytes      int64         // staged bytes of one user at once, and so of one file
	FileCount      int           // staged files of one user at once
	FileTTL        time.Duration // from file.open to the removal of the file, whatever happened
}

// DefaultLimits returns the limits of interface §4 and, where it is silent,
// ours.
func DefaultLimits() Limits {
	return Limits{
		MaxMessage:     1 << 20,
		MaxConnections: 256,
		MaxPerUID:      64,
		LineTimeout:    10 * time.Second,
		WriteTimeout:   30 * time.Second,
		MaxInFlight:    16,
		MaxRunPerUID:   32,
		Drain:          5 * time.Second,
		FileBytes:      128 << 20,
		FileCount:      32,
		FileTTL:        10 * time.Minute,
	}
}

func orDefault[T int | int64 | time.Duration](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

func (l Limits) filled() Limits {
	d := DefaultLimits()
	return Limits{
		MaxMessage:     orDefault(l.MaxMessage, d.MaxMessage),
		MaxConnections: orDefault(l.MaxConnections, d.MaxConnections),
		MaxPerUID:      orDefault(l.MaxPerUID, d.MaxPerUID),
		LineTimeout:    orDefault(l.LineTimeout, d.LineTimeout),
		WriteTimeout:   orDefault(l.WriteTimeout, d.WriteTimeout),
		MaxInFlight:    orDefault(l.MaxInFlight, d.MaxInFlight),
		MaxRunPerUID:   orDefault(l.MaxRunPerUID, d.MaxRunPerUID),
		Drain:          orDefault(l.Drain, d.Drain),
		FileBytes:      orDefault(l.FileBytes, d.FileBytes),
		FileCount:      orDefault(l.FileCount, d.FileCount),
		FileTTL:        orDefault(l.FileTTL, d.FileTTL),
	}
}

const (
	maxDepth  = 32        // nesting of one line (interface §5)
	maxChunk  = 256 << 10 // decoded bytes of one file.data (interface §5)
	maxID     = 128       // bytes of a request's id
	maxMethod = 128       // bytes of a method's name
	// maxBadLines in a row close a connection: somebody who speaks another
	// protocol is not worth a parser.
	maxBadLines = 16
)
