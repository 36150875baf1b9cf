package plugin

import "github.com/weftnet/weft/decide"

// Decider asks the ledger for this host.
func (a *Agent) Decider() *decide.Decider { return a.decider }
