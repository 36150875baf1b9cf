package lease

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLeaseIsCountedOnTheBootClock(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	sent := Moment{"one", 5 * time.Hour, noon}
	for name, c := range map[string]struct {
		sent, now Moment
		want      time.Duration
	}{
		"at once":                               {sent, sent, 24 * time.Hour},
		"an hour later":                         {sent, Moment{"one", 6 * time.Hour, noon.Add(time.Hour)}, 23 * time.Hour},
		"suspended for a day":                   {sent, Moment{"one", 29 * time.Hour, noon.Add(24 * time.Hour)}, 0},
		"a year forward by the wall clock":      {sent, Moment{"one", 6 * time.Hour, noon.AddDate(1, 0, 0)}, 23 * time.Hour},
		"a wall clock set back":                 {sent, Moment{"one", 30 * time.Hour, noon.AddDate(-1, 0, 0)}, -time.Hour},
		"a boot clock that went back":           {sent, Moment{"one", 4 * time.Hour, noon.Add(time.Hour)}, 0},
		"rebooted an hour later":                {sent, Moment{"two", time.Minute, noon.Add(time.Hour)}, 9 * time.Hour},
		"rebooted, the wall clock does not run": {sent, Moment{"two", 3 * time.Hour, noon.Add(time.Second)}, 7 * time.Hour},
		"rebooted after ten hours":              {sent, Moment{"two", time.Minute, noon.Add(10 * time.Hour)}, 0},
		"rebooted into the past":                {sent, Moment{"two", time.Minute, noon.Add(-time.Second)}, 0},
		"never renewed":                         {Moment{}, sent, 0},
		"never renewed, clocks unknown":         {Moment{}, Moment{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.sent.Left(c.now); got != c.want {
				t.Errorf("%v left, want %v", got, c.want)
			}
		})
	}
}

// TestNoClockMakesALeaseLonger: whatever a wall clock that is wrong by less than
// RebootDoubt says, in whichever starts of the machine, a lease that counts is not
// older than Length in true time.
func TestNoClockMakesALeaseLonger(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		span := func(name string, most time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(most)).Draw(rt, name))
		}
		passed := span("true time", 72*time.Hour)
		sent := Moment{"one", span("up", 100*time.Hour), time.Unix(1e9, 0)}
		now := Moment{"one", sent.Up + passed, sent.Wall.Add(span("any step", 1e4*time.Hour) - 5e3*time.Hour)}
		if rapid.Bool().Draw(rt, "rebooted") {
			wrong := span("error", 2*RebootDoubt) - RebootDoubt
			now = Moment{"two", min(span("up again", passed+1), passed), sent.Wall.Add(passed + wrong)}
		}
		if left := sent.Left(now); left > 0 && passed > Length {
			rt.Fatalf("%v after the renewal was sent the lease has %v left", passed, left)
		}
	})
}
