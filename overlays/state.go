package overlays

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// State is the State of overlay.proto: what GET /overlay-master/state answers.
type State struct {
	Network *Config `json:"network,omitempty"`
	Agents  []Agent `json:"agents"`
}

// Agent is an AgentInfo of overlay.proto: what GET /overlay-agent/overlay answers.
type Agent struct {
	IP       netip.Addr     `json:"ip"`
	Overlays []AgentOverlay `json:"overlays"`
	Attempts *int           `json:"configuration_attempts,omitempty"` // of the agent's own answer
}

// AgentOverlay is an AgentOverlayInfo of overlay.proto.
type AgentOverlay struct {
	Info         Overlay      `json:"info"`
	Subnet       netip.Prefix `json:"subnet,omitzero"`
	Subnet6      netip.Prefix `json:"subnet6,omitzero"`
	MesosBridge  *Bridge      `json:"mesos_bridge,omitempty"`
	DockerBridge *Bridge      `json:"docker_bridge,omitempty"`
	Backend      Backend      `json:"backend"`
	State        *Status      `json:"state,omitempty"`
}

// Bridge is a BridgeInfo of overlay.proto.
type Bridge struct {
	Name string       `json:"name"`
	IP   netip.Prefix `json:"ip,omitzero"`
	IP6  netip.Prefix `json:"ip6,omitzero"`
}

// Backend is a BackendInfo of overlay.proto.
type Backend struct {
	VXLAN *VXLAN `json:"vxlan,omitempty"`
}

// VXLAN is a VxLANInfo of overlay.proto.
type VXLAN struct {
	VNI      netmap.VNI   `json:"vni"`
	VTEPName string       `json:"vtep_name"`
	VTEPIP   netip.Prefix `json:"vtep_ip,omitzero"`
	VTEPMAC  string       `json:"vtep_mac,omitempty"`
	VTEPIP6  netip.Prefix `json:"vtep_ip6,omitzero"`
	VTEPMTU  uint32       `json:"vtep_mtu,omitempty"`
}

// Status is what a host says about an overlay.
type Status struct {
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

// The statuses of overlay.proto.
const (
	StatusOK          = "STATUS_OK"
	StatusFailed      = "STATUS_FAILED"
	StatusConfiguring = "STATUS_CONFIGURING"
)

// Devices name the bridge and the VXLAN device of a network in the kernel.
type Devices struct{ Bridge, VXLAN func(netmap.VNI) string }

// StateOf is what a host of the cluster knows about the overlays of a file on all hosts.
func StateOf(c *Config, view *netmap.View, d Devices) State {
	s := State{Network: c, Agents: []Agent{}}
	blocks := firstBlocks(c, view)
	for _, h := range view.Hosts {
		if !h.Entry.Removed && h.Fact.Underlay.IsValid() {
			s.Agents = append(s.Agents, agentOf(c, view, blocks, h, d))
		}
	}
	slices.SortFunc(s.Agents, func(x, y Agent) int { return x.IP.Compare(y.IP) })
	return s
}

// agentOf is what of the overlays is on one host.
func agentOf(c *Config, view *netmap.View, blocks map[part]netip.Prefix, h netmap.HostView, d Devices) Agent {
	a := Agent{IP: h.Fact.Underlay.Addr(), Overlays: []AgentOverlay{}}
	said := readStatuses(h.Fact.Overlays)
	for _, o := range c.Overlays {
		n, exists := networkOf(view, o)
		status := said[o.Name]
		if !o.Enabled || !exists && status == nil {
			continue
		}
		out := AgentOverlay{Info: o, State: status}
		if exists {
			out.Backend.VXLAN = c.vxlan(h.Entry, n.VNI, d)
			out.Subnet, out.Subnet6 = blocks[part{o.v4, h.ID}], blocks[part{o.v6, h.ID}]
		}
		if out.Subnet.IsValid() || out.Subnet6.IsValid() {
			both := &Bridge{Name: d.Bridge(n.VNI), IP: out.Subnet, IP6: out.Subnet6}
			out.MesosBridge, out.DockerBridge = both, both
		}
		a.Overlays = append(a.Overlays, out)
	}
	return a
}

// networkOf is the network that an overlay is; false if there is none, or a different one has its name.
func networkOf(view *netmap.View, o Overlay) (netmap.Network, bool) {
	n, found := view.FindNetwork(o.Name)
	return n, found && !n.Retired && differs(view, n, o) == ""
}

// differs says what an overlay's network has that is not as the file says.
func differs(view *netmap.View, n netmap.Network, o Overlay) string {
	if !slices.Equal(n.Subnets, o.subnets()) {
		return fmt.Sprintf("has the subnets %v, and the file says %v", n.Subnets, o.subnets())
	}
	for _, p := range n.Subnets {
		if s, ok := view.Subnet(p); ok && s.BlockBits != o.block(p) {
			return fmt.Sprintf("gives each host /%d of %s, and the file says /%d", s.BlockBits, p, o.block(p))
		}
	}
	return ""
}

// part is what a host has of a subnet.
type part struct {
	subnet netip.Prefix
	host   netmap.HostID
}

// firstBlocks are the first blocks of hosts in the subnets of overlays.
func firstBlocks(c *Config, view *netmap.View) map[part]netip.Prefix {
	out := map[part]netip.Prefix{}
	for _, o := range c.Overlays {
		for _, p := range o.subnets() {
			for _, b := range view.BlocksOf(p) {
				if _, has := out[part{p, b.Owner}]; !has {
					out[part{p, b.Owner}] = b.Prefix
				}
			}
		}
	}
	return out
}

// vxlan is the backend of a host. Weft's mesh has no VTEP addresses: those shown follow from the file by the modules'
// rule, with the host's index in place of the first number that is free. They are left out where the subnet has no more.
func (c *Config) vxlan(h netmap.HostEntry, vni netmap.VNI, d Devices) *VXLAN {
	v := &VXLAN{VNI: vni, VTEPName: d.VXLAN(vni), VTEPMTU: c.VTEPMTU}
	v.VTEPIP6 = nth(c.vtep6, h.Index)
	if v.VTEPIP = nth(c.vtep, h.Index); v.VTEPIP.IsValid() {
		ip := v.VTEPIP.Addr().As4()
		v.VTEPMAC = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", c.oui[0], c.oui[1], c.oui[2], ip[1], ip[2], ip[3])
	}
	return v
}

// nth is an address of a subnet with the subnet's length; zero if the subnet has none, or that is its last.
func nth(subnet netip.Prefix, n uint32) netip.Prefix {
	if !subnet.IsValid() || n == 0 {
		return netip.Prefix{}
	}
	raw := subnet.Masked().Addr().AsSlice()
	for i, rest := len(raw)-1, uint64(n); i >= 0; i-- {
		rest += uint64(raw[i])
		raw[i], rest = byte(rest), rest>>8
	}
	a, _ := netip.AddrFromSlice(raw)
	if !subnet.Contains(a) || a.Is4() && !subnet.Contains(a.Next()) {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, subnet.Bits())
}

// mostSaid is how long the errors of one host are together, in bytes: they travel in its fact.
const mostSaid = 2000

// writeStatuses is what a host says about its overlays, as it travels. An error that is too long is cut.
func writeStatuses(all map[string]*Status) string {
	failed := 0
	for _, s := range all {
		if s.Error != "" {
			failed++
		}
	}
	out := make(map[string]Status, len(all))
	for name, s := range all {
		short := Status{Status: s.Status}
		for _, r := range s.Error {
			if len(short.Error) >= min(400, mostSaid/failed/2) { // JSON doubles quotes
				short.Error += "..."
				break
			}
			if r < ' ' || r > '~' {
				r = '?'
			}
			short.Error += string(r)
		}
		out[name] = short
	}
	if len(out) == 0 {
		return ""
	}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(out) // strings alone
	return strings.TrimSpace(text.String())
}

// readStatuses reads what a host says; nothing if it makes no sense.
func readStatuses(text string) map[string]*Status {
	var out map[string]*Status
	if text == "" || json.Unmarshal([]byte(text), &out) != nil {
		return nil
	}
	return out
}
