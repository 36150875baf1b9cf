package lease

import (
	"encoding/json"
	"sync"
	"time"
)

// clockStep is how far the wall clock may move against the boot clock before Clocks
// writes that down: NTP slews the wall clock all the time.
const clockStep = time.Minute

// started is when the machine was started, by the wall clock. The wall clock may have
// been set since, so these are the earliest and the latest such time that any agent saw
// since the machine was started.
type started struct {
	Boot     string    `json:"boot"`
	Earliest time.Time `json:"earliest"`
	Latest   time.Time `json:"latest"`
}

// Clocks reads the machine's clocks and remembers how people and NTP have set the wall
// clock since the machine was started, so that setting it never makes a lease younger: a
// renewal counts as sent at the earliest time that the wall clock can mean, and now is
// the latest. Safe for concurrent use.
type Clocks struct {
	read func() (Moment, error)
	note func([]byte) // for the next agent of this start of the machine; must not block

	mu   sync.Mutex
	seen started
	kept started // as it is noted
}

// NewClocks continues from what an earlier agent noted last, if that was in this start of
// the machine.
func NewClocks(read func() (Moment, error), noted []byte, note func([]byte)) *Clocks {
	c := &Clocks{read: read, note: note}
	if json.Unmarshal(noted, &c.seen) == nil {
		c.kept = c.seen
	}
	return c
}

// Now is the moment to compare with the one at which a renewal was sent.
func (c *Clocks) Now() (Moment, error) {
	m, s, err := c.look()
	m.Wall = s.Latest.Add(m.Up)
	return m, err
}

// Sending is the moment to note for a renewal that is sent now.
func (c *Clocks) Sending() (Moment, error) {
	m, s, err := c.look()
	m.Wall = s.Earliest.Add(m.Up)
	return m, err
}

// look reads the clocks and remembers how the wall clock is set.
func (c *Clocks) look() (Moment, started, error) {
	m, err := c.read()
	if err != nil {
		return Moment{}, started{}, err
	}
	at := m.Wall.Round(0).Add(-m.Up)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen.Boot != m.Boot {
		c.seen = started{m.Boot, at, at}
	}
	if at.Before(c.seen.Earliest) {
		c.seen.Earliest = at
	}
	if at.After(c.seen.Latest) {
		c.seen.Latest = at
	}
	if c.kept.Boot != m.Boot || c.kept.Earliest.Sub(c.seen.Earliest) > clockStep || c.seen.Latest.Sub(c.kept.Latest) > clockStep {
		c.kept = c.seen
		if raw, err := json.Marshal(c.seen); err == nil {
			c.note(raw)
		}
	}
	return m, c.seen, nil
}
