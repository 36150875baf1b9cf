//go:build nextlevel

package plugin

import (
	"encoding/json"
	"net/http"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/ledger/state"
)

// Further implements api.Further: POST /ranges/drop takes address space back.
func (a *Agent) Further(mux *http.ServeMux) {
	mux.HandleFunc("POST /ranges/drop", func(w http.ResponseWriter, req *http.Request) {
		var r api.Range
		err := json.NewDecoder(req.Body).Decode(&r)
		if err == nil {
			_, err = a.member.Decide(req.Context(), state.Command{Kind: state.KindDropRange, AddRange: &state.AddRange{Range: r.Prefix}})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
}
