package plugin

import (
	"context"

	"github.com/weftnet/weft/decide"
)

// Unused is the part of Run that asks Docker.
func (c Cleanup) Unused(ctx context.Context) error { return c.unused(ctx) }

// Decider asks the ledger for this host.
func (a *Agent) Decider() *decide.Decider { return a.decider }
