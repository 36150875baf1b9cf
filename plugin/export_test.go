package plugin

import (
	"net/http"

	"github.com/weftnet/weft/decide"
)

// Decider asks the ledger for this host.
func (a *Agent) Decider() *decide.Decider { return a.decider }

// OverlayHandlers are what the HTTP server has for overlays.
func (a *Agent) OverlayHandlers() map[string]http.HandlerFunc { return a.overlays.Handlers() }
