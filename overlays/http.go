package overlays

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// maxRequest bounds a request, bytes, and maxAgents the hosts that it names.
const (
	maxRequest = 64 << 10
	maxAgents  = 64
)

// Handlers answer what the modules answered, by their patterns; none where there is no overlay file.
func (k *Keeper) Handlers() map[string]http.HandlerFunc {
	if k.cfg.Path == "" {
		return nil
	}
	out := map[string]http.HandlerFunc{
		"GET /overlay-master/state":  k.state,
		"GET /overlay-agent/overlay": k.agent,
	}
	if k.cfg.Admin {
		// A browser sends what any web page asks it to.
		guarded := http.NewCrossOriginProtection().Handler(http.HandlerFunc(k.remove))
		out["POST /overlay-master/agents/delete"] = guarded.ServeHTTP
	}
	return out
}

// ready is the file and the facts; it answers itself where there are none yet.
func (k *Keeper) ready(w http.ResponseWriter) (*Config, *netmap.View) {
	c := k.loaded()
	if c == nil || !k.cfg.Facts.Synced() {
		http.Error(w, "this host has not read its overlay file, or does not know the cluster yet; weft status says why", http.StatusServiceUnavailable)
		return nil, nil
	}
	return c, k.cfg.Facts.View()
}

// state makes one answer at a time: in a large cluster each costs memory.
func (k *Keeper) state(w http.ResponseWriter, req *http.Request) {
	end, err := k.one.WaitWithin(req.Context())
	if err != nil {
		return // the client has gone
	}
	defer end()
	if c, view := k.ready(w); c != nil {
		answer(w, StateOf(c, view, k.cfg.Devices))
	}
}

func (k *Keeper) agent(w http.ResponseWriter, req *http.Request) {
	if !accepts(req.Header.Get("Accept")) {
		http.Error(w, "the answer is JSON (application/json)", http.StatusUnsupportedMediaType)
		return
	}
	c, view := k.ready(w)
	if c == nil {
		return
	}
	h, _ := view.Host(k.cfg.Self)
	a := agentOf(c, view, firstBlocks(c, view), h, k.cfg.Devices)
	k.mu.Lock()
	attempts := k.attempts
	k.mu.Unlock()
	a.Attempts = &attempts
	answer(w, a)
}

// accepts reports whether a client takes JSON.
func accepts(header string) bool {
	if header == "" {
		return true
	}
	for part := range strings.SplitSeq(header, ",") {
		kind, _, _ := strings.Cut(part, ";")
		if slices.Contains([]string{"application/json", "application/*", "*/*"}, strings.TrimSpace(kind)) {
			return true
		}
	}
	return false
}

// remove removes hosts by their addresses: all that it names, or none if it names one that is no host. It goes by the
// rules of `weft host rm`, so a host whose lease has not run out stays.
func (k *Keeper) remove(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Agents []netip.Addr `json:"agents"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxRequest)).Decode(&body); err != nil {
		http.Error(w, fmt.Sprintf(`%v; want {"agents":["10.0.0.1"]}`, err), http.StatusBadRequest)
		return
	}
	c, view := k.ready(w)
	if c == nil {
		return
	}
	if len(body.Agents) == 0 || len(body.Agents) > maxAgents {
		http.Error(w, fmt.Sprintf("the request names %d agents, want 1 to %d", len(body.Agents), maxAgents), http.StatusBadRequest)
		return
	}
	var hosts []netmap.HostID
	for _, ip := range body.Agents {
		at := slices.DeleteFunc(slices.Clone(view.Hosts), func(h netmap.HostView) bool {
			return h.Entry.Removed || h.Fact.Underlay.Addr() != ip.Unmap()
		})
		if len(at) != 1 { // a machine that was made anew has its predecessor's address
			http.Error(w, fmt.Sprintf("%d hosts of this cluster have the address %s, and nothing was removed; weft status lists them, weft host rm removes one", len(at), ip), http.StatusBadRequest)
			return
		}
		hosts = append(hosts, at[0].ID)
	}
	for i, id := range hosts {
		if err := k.cfg.Remove(req.Context(), id); err != nil {
			status := http.StatusConflict
			if errors.Is(err, &netmap.Refusal{Kind: netmap.NoQuorum}) {
				status = http.StatusServiceUnavailable
			}
			http.Error(w, fmt.Sprintf("%s: %v (removed before it: %v)", body.Agents[i], err, body.Agents[:i]), status)
			return
		}
	}
	answer(w, StateOf(c, k.cfg.Facts.View(), k.cfg.Devices))
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone: nothing to do
}
