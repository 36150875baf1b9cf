// Package attachtest has a fake host in memory: it implements the ledger, the facts, the kernel's
// ports and the disk that package attach needs. It prints what it was asked to do and what it
// holds in terms that an operator knows.
package attachtest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/netmap"
)

// Host implements all interfaces of attach.Config. Make it with New. Safe for
// concurrent use.
type Host struct {
	mu       sync.Mutex
	next     netmap.NetworkID
	networks map[netmap.NetworkID]netmap.Network
	facts    map[netmap.EndpointID]netmap.Endpoint
	ports    map[netmap.EndpointID]netmap.Endpoint
	disk     map[string][]byte
	before   map[string]func(context.Context) error
	after    map[string]func()
	lines    []string
}

// SwarmNetwork is the id of a network that a swarm created under the name swarmed.
const SwarmNetwork = "m6gj95olthyrnujkgmtzpdoox"

// New is a host without networks, with an empty disk.
func New() *Host {
	return &Host{
		networks: map[netmap.NetworkID]netmap.Network{},
		facts:    map[netmap.EndpointID]netmap.Endpoint{}, ports: map[netmap.EndpointID]netmap.Endpoint{},
		disk: map[string][]byte{}, before: map[string]func(context.Context) error{}, after: map[string]func(){},
	}
}

// Config makes attachments of this host.
func (h *Host) Config() attach.Config {
	return attach.Config{Networks: h, Addresses: h, Facts: h, Ports: h, Disk: h}
}

// Before runs f at the beginning of every call of a method, such as "Plug". If f returns an error,
// the call fails with it; f may also block. For the disk's methods, which have no context, f gets
// context.Background. A nil f ends that.
func (h *Host) Before(method string, f func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before[method] = f
}

// After runs f at the end of every call of a method that succeeded, before the call returns.
func (h *Host) After(method string, f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.after[method] = f
}

// begin and end surround every call.
func (h *Host) begin(ctx context.Context, method string) error {
	h.mu.Lock()
	f := h.before[method]
	h.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx)
}

func (h *Host) end(method string) {
	h.mu.Lock()
	f := h.after[method]
	h.mu.Unlock()
	if f != nil {
		f()
	}
}

// Story returns what the host was asked to do since the last call of Story, one sentence per line.
func (h *Host) Story() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.lines = nil }()
	return strings.Join(h.lines, "\n")
}

func (h *Host) say(format string, args ...any) {
	h.lines = append(h.lines, fmt.Sprintf(format, args...))
}

// String lists what the host holds, one thing per line. It is empty once everything is gone.
func (h *Host) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, id := range slices.Sorted(maps.Keys(h.networks)) {
		out = append(out, fmt.Sprintf("ledger: %s", network(h.networks[id])))
	}
	for _, id := range slices.Sorted(maps.Keys(h.facts)) {
		out = append(out, "fact: "+endpoint(h.facts[id]))
	}
	for _, id := range slices.Sorted(maps.Keys(h.ports)) {
		out = append(out, "port: "+endpoint(h.ports[id]))
	}
	for _, key := range slices.Sorted(maps.Keys(h.disk)) {
		kind, id, _ := strings.Cut(key, "/")
		out = append(out, fmt.Sprintf("disk: %s %.12s", kind, id))
	}
	return strings.Join(out, "\n")
}

func network(n netmap.Network) string {
	var words []string
	words = append(words, fmt.Sprintf("network %d", n.ID))
	for _, s := range n.Subnets {
		words = append(words, s.String())
	}
	if n.Name != "" {
		words = append(words, "name "+n.Name)
	}
	if n.VNI != 0 {
		words = append(words, fmt.Sprintf("VNI %d", n.VNI))
	}
	if n.MTU != 0 {
		words = append(words, fmt.Sprintf("MTU %d", n.MTU))
	}
	if !n.Multicast {
		words = append(words, "without multicast")
	}
	if !n.Host {
		words = append(words, "without hosts")
	}
	if n.Internal {
		words = append(words, "internal")
	}
	return strings.Join(words, " ")
}

func endpoint(e netmap.Endpoint) string {
	words := []string{fmt.Sprintf("endpoint %.12s at", e.ID)}
	for _, a := range []netip.Addr{e.V4, e.V6} {
		if a.IsValid() {
			words = append(words, a.String())
		}
	}
	return strings.Join(append(words, e.MAC.String(), fmt.Sprintf("in network %d", e.Network)), " ")
}

// Attach implements attach.Addresses: every address was handed out.
func (h *Host) Attach(netip.Addr, netmap.Owner) error {
	defer h.end("Attach")
	return h.begin(context.Background(), "Attach")
}

// RefusedSwarm implements driver.Docker: Docker has listed one network of a swarm, SwarmNetwork.
func (h *Host) RefusedSwarm(docker string) (name string) {
	if docker == SwarmNetwork {
		return "swarmed"
	}
	return ""
}

// EnsureNetwork implements attach.Networks: the network with these subnets, made
// if there is none.
func (h *Host) EnsureNetwork(ctx context.Context, r attach.NetworkRequest) (netmap.Network, error) {
	if err := h.begin(ctx, "EnsureNetwork"); err != nil {
		return netmap.Network{}, err
	}
	defer h.end("EnsureNetwork")
	h.mu.Lock()
	defer h.mu.Unlock()
	// The ledger sorts the subnets.
	subnets := slices.SortedFunc(slices.Values(r.Subnets), netip.Prefix.Compare)
	for _, n := range h.networks {
		if slices.Equal(n.Subnets, subnets) {
			h.say("ledger: %s %.12s joins %s", r.Owner, r.ID, network(n))
			return n, nil
		}
	}
	h.next++
	n := netmap.Network{
		ID: h.next, Name: r.Name, VNI: r.VNI, Subnets: subnets, MTU: r.MTU,
		Multicast: r.Multicast, Host: r.Host, Internal: r.Internal,
	}
	h.networks[n.ID] = n
	h.say("ledger: %s %.12s makes %s", r.Owner, r.ID, network(n))
	return n, nil
}

// RejoinNetwork implements attach.Networks. It makes a network that does not exist any more again.
func (h *Host) RejoinNetwork(ctx context.Context, r attach.NetworkRecord) (netmap.Network, error) {
	if err := h.begin(ctx, "RejoinNetwork"); err != nil {
		return netmap.Network{}, err
	}
	defer h.end("RejoinNetwork")
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.networks[r.Network.ID]
	if !ok {
		h.next++
		n = r.Network
		n.ID = h.next
		h.networks[n.ID] = n
	}
	h.say("ledger: %s %.12s is in %s again", r.Owner, r.ID, network(n))
	return n, nil
}

// Deleted implements driver.Docker.
func (h *Host) Deleted(string) {}

// Joinable implements attach.Networks: every network takes new endpoints.
func (h *Host) Joinable(netmap.NetworkID) error {
	defer h.end("Joinable")
	return h.begin(context.Background(), "Joinable")
}

// LeaveNetwork implements attach.Networks.
func (h *Host) LeaveNetwork(ctx context.Context, r attach.NetworkRecord, last bool) error {
	if err := h.begin(ctx, "LeaveNetwork"); err != nil {
		return err
	}
	defer h.end("LeaveNetwork")
	h.mu.Lock()
	defer h.mu.Unlock()
	if !last {
		h.say("ledger: %s %.12s goes, another stays in network %d", r.Owner, r.ID, r.Network.ID)
		return nil
	}
	h.say("ledger: %s %.12s leaves network %d", r.Owner, r.ID, r.Network.ID)
	delete(h.networks, r.Network.ID)
	return nil
}

// Announce implements attach.Facts.
func (h *Host) Announce(e netmap.Endpoint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts[e.ID] = e
	h.say("facts: %s", endpoint(e))
}

// Withdraw implements attach.Facts.
func (h *Host) Withdraw(id netmap.EndpointID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.facts, id)
	h.say("facts: no endpoint %.12s", id)
}

// Gone implements attach.Facts.
func (h *Host) Gone(e netmap.Endpoint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.say("addresses: free are those of %s", endpoint(e))
}

// Plug implements attach.Ports.
func (h *Host) Plug(ctx context.Context, e netmap.Endpoint) (string, error) {
	if err := h.begin(ctx, "Plug"); err != nil {
		return "", err
	}
	defer h.end("Plug")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports[e.ID] = e
	h.say("kernel: plug %s", endpoint(e))
	return fmt.Sprintf("wfc%.8s", e.ID), nil
}

// Unplug implements attach.Ports.
func (h *Host) Unplug(ctx context.Context, id netmap.EndpointID) error {
	if err := h.begin(ctx, "Unplug"); err != nil {
		return err
	}
	defer h.end("Unplug")
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ports, id)
	h.say("kernel: unplug endpoint %.12s", id)
	return nil
}

// Changed implements attach.Ports.
func (h *Host) Changed() { h.end("Changed") }

// Reboot removes the kernel's ports, the announced facts and the story. Disk and ledger stay.
func (h *Host) Reboot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.facts)
	clear(h.ports)
	h.lines = nil
}

// Load implements attach.Disk.
func (h *Host) Load() (map[string][]byte, error) {
	if err := h.begin(context.Background(), "Load"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string][]byte{}
	for key, value := range h.disk {
		out[key] = bytes.Clone(value)
	}
	return out, nil
}

// Commit implements attach.Disk.
func (h *Host) Commit(set map[string][]byte, del ...string) error {
	if err := h.begin(context.Background(), "Commit"); err != nil {
		return err
	}
	defer h.end("Commit")
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, value := range set {
		h.disk[key] = bytes.Clone(value)
	}
	for _, key := range del {
		delete(h.disk, key)
	}
	return nil
}
