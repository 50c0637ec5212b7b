package guard

import (
	"sync"
	"time"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Attempts bounds what one client uid may ask at all, before anything is read,
// judged or recorded. What it refuses is only counted: a record each would let
// a client fill the disk with its own refusals.
type Attempts struct {
	mu      sync.Mutex
	rate    rate
	tat     map[uint32]int64
	dropped map[uint32]int
	clock   clock
}

// NewAttempts returns the limit on attempts with nothing spent.
func NewAttempts(limit policy.Limit) *Attempts {
	return &Attempts{rate: newRate(limit), tat: map[uint32]int64{}, dropped: map[uint32]int{}, clock: newClock()}
}

// Reconfigure takes another limit. What was spent stays spent.
func (a *Attempts) Reconfigure(limit policy.Limit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rate = newRate(limit)
	now := a.clock.now()
	for uid, tat := range a.tat {
		a.tat[uid] = a.rate.clamp(tat, now)
	}
}

// Admit counts one attempt of a uid and says whether it may go on; if not,
// after how long one would. The uid is the kernel's: there are as many keys as
// there are users who can reach the socket.
func (a *Attempts) Admit(uid uint32) (ok bool, retry time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.now()
	wait, ok := a.rate.wait(a.tat[uid], now)
	if !ok {
		a.dropped[uid]++
		return false, wait
	}
	a.tat[uid] = max(a.tat[uid], now) + a.rate.interval
	return true, 0
}

// Dropped returns how many attempts of each uid were refused since the last
// call, and starts counting anew.
func (a *Attempts) Dropped() map[uint32]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	dropped := a.dropped
	a.dropped = map[uint32]int{}
	return dropped
}
