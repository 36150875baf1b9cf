package plugin

import (
	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/multicast"
	"github.com/weftnet/weft/netmap"
)

// newRoutes returns what leads the multicasts of this host's containers into their networks.
func newRoutes(cfg Config, attached *attach.Attachments, problem func(topic, sentence string)) *multicast.Routes {
	routes := multicast.Config{Members: func() []multicast.Member { return multicasting(attached) }, Route: cfg.RouteMulticast, Problem: problem}
	if cfg.Sandboxes != nil {
		routes.Open = cfg.Sandboxes.Open
	}
	return multicast.New(routes)
}

// multicasting lists the endpoints in sandboxes whose networks have multicast.
func multicasting(attached *attach.Attachments) (out []multicast.Member) {
	has := map[netmap.NetworkID]bool{}
	for _, n := range attached.Networks() {
		has[n.Network.ID] = n.Network.Multicast
	}
	for _, e := range attached.Endpoints() {
		if p := e.Endpoint; e.Joined && e.Sandbox != "" && p.V4.IsValid() && has[p.Network] {
			mac := datapath.Port{V4: p.V4, V6: p.V6, MAC: p.MAC}.HardwareAddr()
			out = append(out, multicast.Member{Endpoint: p.ID, Sandbox: e.Sandbox, MAC: mac})
		}
	}
	return out
}
