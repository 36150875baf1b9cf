//go:build nextlevel

package plugin

import (
	"context"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/ledger/state"
)

// DropRange takes address space back. POST /ranges/drop calls it, which the api package has under
// the same build tag.
func (a *Agent) DropRange(ctx context.Context, r api.Range) (string, error) {
	_, err := a.member.Decide(ctx, state.Command{Kind: state.KindDropRange, AddRange: &state.AddRange{Range: r.Prefix}})
	return "", err
}
