package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/ledger"
)

// readClocks reads this machine's clocks: the one that runs since boot and while
// suspended (clock_gettime(2)), and the one that people set.
func readClocks() (ledger.Moment, error) {
	boot, err := bootID()
	if err != nil {
		return ledger.Moment{}, fmt.Errorf("plugin: which boot this is: %w", err)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return ledger.Moment{}, fmt.Errorf("plugin: the boot clock: %w", err)
	}
	return ledger.Moment{Boot: boot, Up: time.Duration(up.Nano()), Wall: time.Now().Round(0)}, nil
}

// knownBoot is what bootID has read. No process outlives a start of the machine, and the
// clocks are read for every address that is handed out.
var knownBoot atomic.Pointer[string]

// bootID tells this start of the machine from all others.
func bootID() (string, error) {
	if known := knownBoot.Load(); known != nil {
		return *known, nil
	}
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	id := string(bytes.TrimSpace(raw))
	knownBoot.Store(&id)
	return id, nil
}

// clockStep is by how much the wall clock may move against the boot clock before that
// is written down: NTP slews it all the time.
const clockStep = time.Minute

// clocksFile is in a directory that a reboot empties.
const clocksFile = "clocks"

// started is when the machine was started, by the wall clock: as it was seen to be set
// earliest and latest since then, by any agent of this start of the machine.
type started struct {
	Boot     string    `json:"boot"`
	Earliest time.Time `json:"earliest"`
	Latest   time.Time `json:"latest"`
}

// clocks are the machine's clocks with what people and NTP did to the wall clock
// since the machine was started, so that nothing they do makes a lease younger: it
// was sent at the earliest time that the wall clock can mean, and it is the latest
// now. Safe for concurrent use.
type clocks struct {
	read func() (ledger.Moment, error)
	file string // "": an agent knows only what it saw by itself
	fail func(error)

	mu   sync.Mutex
	seen started
	kept started // as it is in the file
}

// newClocks reads back what an earlier agent of this start of the machine saw.
func newClocks(read func() (ledger.Moment, error), volatile string, fail func(error)) *clocks {
	c := &clocks{read: read, fail: fail}
	if c.read == nil {
		c.read = readClocks
	}
	if volatile != "" {
		c.file = filepath.Join(volatile, clocksFile)
		if raw, err := os.ReadFile(c.file); err == nil && json.Unmarshal(raw, &c.seen) == nil {
			c.kept = c.seen
		}
	}
	return c
}

// now is the moment by which a lease is judged.
func (c *clocks) now() (ledger.Moment, error) {
	m, s, err := c.look()
	m.Wall = s.Latest.Add(m.Up)
	return m, err
}

// sending is the moment as which a renewal is noted that is sent now.
func (c *clocks) sending() (ledger.Moment, error) {
	m, s, err := c.look()
	m.Wall = s.Earliest.Add(m.Up)
	return m, err
}

// look reads the clocks and takes in how the wall clock is set.
func (c *clocks) look() (ledger.Moment, started, error) {
	m, err := c.read()
	if err != nil {
		return ledger.Moment{}, started{}, err
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
		c.keep()
	}
	return m, c.seen, nil
}

// keep writes down what was seen, for the next agent. It waits for no disk.
func (c *clocks) keep() {
	if c.file == "" {
		return
	}
	raw, err := json.Marshal(c.seen)
	if err == nil {
		err = writeVolatile(c.file, raw)
	}
	if err != nil {
		c.fail(fmt.Errorf("how the wall clock was set would be forgotten with this agent: %w", err))
	}
}

// writeVolatile replaces a file that need not outlive the machine's run, all or nothing.
func writeVolatile(file string, raw []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
