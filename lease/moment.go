// Package lease keeps a host's right to hand out addresses: until when, by its own clocks
// and its disk, and whether the ledger revoked it.
package lease

import "time"

// How long a host's membership lasts, by its own count.
const (
	// Length is how long a host may hand out addresses after it sent its last renewal.
	Length = 24 * time.Hour
	// Slack is how much longer the keepers wait than the host does: its clock and
	// theirs may differ in rate by 0.7 %, some hundred times what quartz does.
	Slack = 10 * time.Minute
	// RebootDoubt is taken off a lease that is counted on the wall clock because the
	// machine was started since. A real-time clock that keeps local time and is read
	// as UTC is wrong by up to 14 hours.
	RebootDoubt = 14 * time.Hour
)

// Moment is one reading of a host's clocks.
type Moment struct {
	Boot string        `json:"boot"` // which start of the machine
	Up   time.Duration `json:"up"`   // since then, with the time it was suspended
	Wall time.Time     `json:"wall"`
}

// Left is how long a lease lasts at the moment now, if the renewal was sent at sent; it has
// ended if that is not above zero. Within one start of the machine only the boot clock
// counts: it runs while the machine is suspended, and nobody can set it. After another
// start the wall clock counts: RebootDoubt is taken off, a wall clock that went backwards
// ends the lease, and the lease is at least as old as the start.
func (sent Moment) Left(now Moment) time.Duration {
	if sent.Boot == "" {
		return 0
	}
	if sent.Boot == now.Boot {
		if now.Up < sent.Up {
			return 0
		}
		return Length - (now.Up - sent.Up)
	}
	passed := now.Wall.Sub(sent.Wall)
	if passed < 0 {
		return 0
	}
	return Length - RebootDoubt - max(passed, now.Up)
}
