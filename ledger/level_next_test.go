//go:build nextlevel

package ledger

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/loglimit"
	"github.com/weftnet/weft/netmap"
)

// TestTheNextLevelIsNotProposed by a leader of the next release in a cluster of this one.
func TestTheNextLevelIsNotProposed(t *testing.T) {
	k := &keeper{machine: &machine{state: state.NewState()}, layer: &layer{log: loglimit.New(slog.New(slog.DiscardHandler))}}
	_, err := k.propose(t.Context(), state.Command{Kind: state.KindDropRange, Host: hostID(1), AddRange: &state.AddRange{}})
	if !errors.Is(err, &netmap.Refusal{Kind: netmap.Outdated}) {
		t.Error(err)
	}
}
