package gossip

import (
	"testing"

	"github.com/weftnet/weft/lab/attack"
)

// TestAttacksAreRead: what the attacks of the lab send must be of a form that agents read, or they try nothing.
func TestAttacksAreRead(t *testing.T) {
	if !protocol.Reads(attack.Form) {
		t.Errorf("the attacks of the lab send datagrams of form %d, agents read %s", attack.Form, protocol)
	}
}
