package lease

import (
	"encoding/json"
	"sync"
	"time"
)

// clockStep is how far the wall clock may drift from the boot clock before Clocks saves that.
// NTP slews the wall clock all the time.
const clockStep = time.Minute

// started is the time of the boot by the wall clock: the earliest and the latest one that any
// agent computed since then. They differ if the wall clock was set in between.
type started struct {
	Boot     string    `json:"boot"`
	Earliest time.Time `json:"earliest"`
	Latest   time.Time `json:"latest"`
}

// Clocks reads the machine's clocks and remembers by how much the wall clock was set since the
// boot. It gives a renewal the earliest time at which it can have been sent, and now the latest
// time that it can be, so setting the clock never makes a lease longer. Safe for concurrent use.
type Clocks struct {
	read func() (Moment, error)
	note func([]byte) // saves started for the next agent in this boot; must not block

	mu   sync.Mutex
	seen started
	kept started // as it was saved last
}

// NewClocks continues from what an earlier agent saved with note, if that was in this boot.
func NewClocks(read func() (Moment, error), noted []byte, note func([]byte)) *Clocks {
	c := &Clocks{read: read, note: note}
	if json.Unmarshal(noted, &c.seen) == nil {
		c.kept = c.seen
	}
	return c
}

// Now returns the moment that Moment.Left takes as now.
func (c *Clocks) Now() (Moment, error) {
	m, s, err := c.look()
	m.Wall = s.Latest.Add(m.Up)
	return m, err
}

// Sending returns the moment to record for a renewal that is sent now.
func (c *Clocks) Sending() (Moment, error) {
	m, s, err := c.look()
	m.Wall = s.Earliest.Add(m.Up)
	return m, err
}

// look reads the clocks and updates the earliest and latest time of the boot.
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
