package plugin_test

import (
	"testing"
	"time"
)

// TestARecoveredLedgerGivesBackNothingThatIsLent: an owner ceded an address by a decision that only the
// lost keepers knew. Until the other host has declared the address to the recovered ledger, the owner
// must not hand it out.
func TestARecoveredLedgerGivesBackNothingThatIsLent(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 7, unreplicated)
		keep, rest := c.keepers(5)
		owner, heir, survivor := rest[0], rest[1], keep[0]
		ids := map[*host]string{}
		for _, h := range hosts {
			ids[h] = h.network("web", "10.40.0.0/24")
		}
		lent := at(owner.run("first", ids[owner], "")).Next()
		c.net.Split(survivor.addr)
		heir.until("it is ceded "+lent.String(), time.Minute, func() bool {
			_, err := heir.docker.Run(t.Context(), "heir", ids[heir], lent)
			return err == nil
		})
		var gone []string
		for _, h := range keep[1:] {
			gone = append(gone, h.Report().Self.String())
		}
		for _, h := range append([]*host{heir, owner}, keep[1:]...) {
			h.stop()
		}
		c.net.HealAll()
		survivor.until("all are noticed", 3*time.Minute, func() bool { return alive(survivor) == 1 })
		if _, err := survivor.recovery(gone); err != nil {
			t.Fatal(err)
		}
		owner.start()
		for range 60 { // the owner looks every minute for what came back
			if _, err := owner.docker.Run(t.Context(), "thief", ids[owner], lent); err == nil {
				t.Fatalf("the owner handed %s out, which it had ceded", lent)
			}
			_ = owner.docker.Remove(t.Context(), "thief")
			time.Sleep(5 * time.Second)
		}
		heir.start()
		heir.ready()
		time.Sleep(3 * time.Minute)
		nobodyTwice(t, []*host{owner, heir})
		owner.run("late", ids[owner], "") // all have declared what they hold
	})
}
