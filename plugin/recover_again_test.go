package plugin_test

import (
	"os"
	"testing"
	"time"

	"github.com/weftnet/weft/status"
)

// TestARecoveryRightAfterABoot waits until it is known whose the log on the disk is, and
// goes on from that, not from the facts alone, which know nothing of the past.
func TestARecoveryRightAfterABoot(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		up(c, 4, unreplicated)
		keep, rest := c.keepers(3)
		survivor := keep[0]
		survivor.run("before", survivor.network("web", "10.40.0.0/24"), "")
		gone := off(survivor, keep[1:]...)
		rest[0].stop() // nobody is there who knows all
		time.Sleep(time.Minute)
		survivor.stop()
		if err := os.RemoveAll(survivor.config().Volatile); err != nil {
			t.Fatal(err)
		}
		survivor.start()
		if _, err := survivor.recovery(gone); err != nil {
			t.Fatal(err)
		}
		survivor.until("it goes on", time.Minute, func() bool { return survivor.View().Generation > 1 })
		past, err := survivor.History(t.Context(), status.HistoryQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range past.Lines {
			if l.What == "granted" && l.Host == survivor.set.Name {
				return
			}
		}
		t.Errorf("the past is forgotten: %+v", past.Lines)
	})
}
