package dataplane

import (
	"errors"
	"testing"

	"github.com/weftnet/weft/datapath"
)

// TestWhatAPlugMayHaveTakenIsAssertedSoon: a plug that failed and an unplug may have taken entries
// that other endpoints need, so neither waits for the next comparison.
func TestWhatAPlugMayHaveTakenIsAssertedSoon(t *testing.T) {
	woken := 0
	d := New(Config{Wake: func() { woken++ }})
	p := datapath.Port{Endpoint: "a"}
	d.Plugged(p, errors.New("no device"))
	if got := d.takeUnplugged(); woken != 1 || len(got) != 1 || got[0] != p {
		t.Errorf("a failed plug: woken %d times for %v", woken, got)
	}
	d.Plugged(p, nil)
	d.Unplugged("unknown")
	if got := d.takeUnplugged(); woken != 1 || len(got) != 0 {
		t.Errorf("a plug, and an unplug of nothing: woken %d times for %v", woken, got)
	}
	d.Unplugged(p.Endpoint)
	if got := d.takeUnplugged(); woken != 2 || len(got) != 1 || got[0] != p {
		t.Errorf("an unplug: woken %d times for %v", woken, got)
	}
}
