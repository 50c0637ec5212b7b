package adapter

import (
	"encoding/json"
	"slices"
	"sync"
)

// maxQueue is how many requests wait for a resident child at a time.
const maxQueue = 64

// call is one request on its way.
type call struct {
	id     int64
	line   []byte
	ready  func() error // channel.Command.Ready
	answer chan answer  // room for one, so that nobody waits for a caller who left
}

type answer struct {
	result json.RawMessage
	err    error
}

func (c *call) reply(result json.RawMessage, err error) { c.answer <- answer{result, err} }

// queue holds requests of which no byte was written yet. A caller who leaves
// takes his request out, so that it neither runs nor keeps a place.
type queue struct {
	mu    sync.Mutex
	calls []*call
	more  chan struct{} // room for one
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

// push reports whether there was room.
func (q *queue) push(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.calls) >= maxQueue {
		return false
	}
	q.calls = append(q.calls, c)
	select {
	case q.more <- struct{}{}:
	default:
	}
	return true
}

// pop returns the oldest request, or nil.
func (q *queue) pop() *call {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.calls) == 0 {
		return nil
	}
	c := q.calls[0]
	q.calls = slices.Delete(q.calls, 0, 1)
	return c
}

// drop takes a request out again, and reports whether it was still there: if
// so, nobody wrote it and nobody will.
func (q *queue) drop(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.calls, c)
	if i < 0 {
		return false
	}
	q.calls = slices.Delete(q.calls, i, i+1)
	return true
}

// clear answers everything that waits with err.
func (q *queue) clear(err error) {
	q.mu.Lock()
	calls := q.calls
	q.calls = nil
	q.mu.Unlock()
	for _, c := range calls {
		c.reply(nil, err)
	}
}
