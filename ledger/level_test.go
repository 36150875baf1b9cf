package ledger

import (
	"bytes"
	"errors"
	"testing"
)

func TestGreetingsOfTwoReleases(t *testing.T) {
	before := greetingForms
	t.Cleanup(func() { greetingForms = before })
	own := greeting{from: hostID(1)}.encode(hostID(2))
	later := bytes.Clone(own)
	later[0]++
	if _, err := readGreeting(bytes.NewReader(later)); !errors.Is(err, errForm) {
		t.Errorf("a greeting of a later release: %v", err)
	}
	greetingForms.Newest++
	for _, b := range [][]byte{own, later} {
		if g, err := readGreeting(bytes.NewReader(b)); err != nil || g.from != hostID(1) {
			t.Errorf("% x is not read by the next release: %v", b, err)
		}
	}
}
