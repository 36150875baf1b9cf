package lease

import (
	"encoding/json"
	"sync"
	"time"
)

// clockStep is by how much the wall clock may move against the boot clock before that
// is written down: NTP slews it all the time.
const clockStep = time.Minute

// started is when the machine was started, by the wall clock: as it was seen to be set
// earliest and latest since then, by any agent of this start of the machine.
type started struct {
	Boot     string    `json:"boot"`
	Earliest time.Time `json:"earliest"`
	Latest   time.Time `json:"latest"`
}

// Clocks are the machine's clocks with what people and NTP did to the wall clock
// since the machine was started, so that nothing they do makes a lease younger: it
// was sent at the earliest time that the wall clock can mean, and it is the latest
// now. Safe for concurrent use.
type Clocks struct {
	read func() (Moment, error)
	note func([]byte) // for the next agent of this start of the machine; it is not waited for

	mu   sync.Mutex
	seen started
	kept started // as it is noted
}

// NewClocks takes in what an earlier agent noted last, if that was of this start of the
// machine.
func NewClocks(read func() (Moment, error), noted []byte, note func([]byte)) *Clocks {
	c := &Clocks{read: read, note: note}
	if json.Unmarshal(noted, &c.seen) == nil {
		c.kept = c.seen
	}
	return c
}

// Now is the moment by which a lease is judged.
func (c *Clocks) Now() (Moment, error) {
	m, s, err := c.look()
	m.Wall = s.Latest.Add(m.Up)
	return m, err
}

// Sending is the moment as which a renewal is noted that is sent now.
func (c *Clocks) Sending() (Moment, error) {
	m, s, err := c.look()
	m.Wall = s.Earliest.Add(m.Up)
	return m, err
}

// look reads the clocks and takes in how the wall clock is set.
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
