// Package lease keeps a host's right to hand out addresses: until when it lasts by the host's own
// clocks and disk, and whether the ledger revoked it.
package lease

import "time"

// How long a host's membership lasts.
const (
	// Length is how long a host may hand out addresses after it sent its last renewal.
	Length = 24 * time.Hour
	// Slack is how much longer than Length the keepers wait before they take a host's
	// addresses. So the clocks of hosts may differ in rate by 0.7 %, about a hundred times the
	// error of a quartz clock.
	Slack = 10 * time.Minute
	// RebootDoubt is subtracted from a lease that is measured by the wall clock because the
	// machine was rebooted since. A real-time clock that keeps local time and is read as UTC
	// is wrong by up to 14 hours.
	RebootDoubt = 14 * time.Hour
)

// Moment is one reading of a host's clocks.
type Moment struct {
	Boot string        `json:"boot"` // which start of the machine
	Up   time.Duration `json:"up"`   // since then, with the time it was suspended
	Wall time.Time     `json:"wall"`
}

// Left returns how much of a lease is left now if its renewal was sent at sent. The lease has
// ended if the result is not positive. Within one boot, Left uses the boot clock only, which
// runs while the machine is suspended and cannot be set. After a reboot it uses the wall clock:
// it subtracts RebootDoubt, ends the lease if the wall clock went backwards, and takes the lease
// to be at least as old as the boot.
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
