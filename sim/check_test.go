package sim_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/pool"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/rpc"
	"github.com/weftnet/weft/store"
)

// fault notes that an invariant of DESIGN §9, by its number, does not hold.
func (w *world) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.tell("WRONG: %s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, text)
}

// noticed reports whether the fault was found that the world's mutation must cause.
func (w *world) noticed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mutated.noticed != "" && slices.ContainsFunc(w.faults, func(f string) bool { return strings.HasPrefix(f, w.mutated.noticed) })
}

// answerLimit is invariant 10.
const answerLimit = 5 * time.Second

// holder is a container that was given an address.
type holder struct {
	host      *host
	container string
	as        netmap.HostID // the identity under which the host gave it the address
}

func (o holder) is(h *host, container string) bool { return o.host == h && o.container == container }

func (o holder) String() string { return o.container + " on " + o.host.String() }

// before is called before each call of Docker's. An address is free for others from the moment
// at which Docker begins to release it.
func (h *host) before(c plugintest.Call) {
	if c.Method != "IpamDriver.ReleaseAddress" || c.Container == "" {
		return
	}
	var r ipam.AddressRelease
	if err := json.Unmarshal([]byte(c.Body), &r); err != nil {
		h.w.t.Error(err)
	}
	addr, err := netip.ParseAddr(r.Address)
	if err != nil {
		h.w.t.Error(err)
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.held[addr].is(h, c.Container) {
		delete(h.w.held, addr)
	}
}

// after checks every answer.
func (h *host) after(c plugintest.Call) {
	h.w.meet(c.Method)
	if c.Took > answerLimit {
		h.w.fault("(10) %s: %s took %v", h, c.Method, c.Took)
	}
	if c.Err != nil {
		h.w.meet(c.Method + " refused")
		h.w.tell("%s: %s %s: %v", h, c.Method, c.Body, c.Err)
		return
	}
	var answer ipam.AddressResponse
	if c.Method != "IpamDriver.RequestAddress" || c.Container == "" {
		return
	}
	if err := json.Unmarshal([]byte(c.Answer), &answer); err != nil {
		h.w.fault("%s: answer %q: %v", h, c.Answer, err)
		return
	}
	got, err := netip.ParsePrefix(answer.Address)
	if err != nil {
		h.w.fault("%s: answer %q: %v", h, c.Answer, err)
		return
	}
	h.w.granted(holder{h, c.Container, h.self}, got.Addr())
}

// granted checks invariants 1, 2 and 4 for an address that was answered.
func (w *world) granted(to holder, addr netip.Addr) {
	w.learn()
	w.mu.Lock()
	other, taken := w.held[addr]
	w.held[addr] = to
	owner, decided := w.belongs(addr), w.decided.Decided
	former, _ := w.decided.Host(other.as)
	w.mu.Unlock()
	if taken && !other.is(to.host, to.container) && former.Entry.Removed {
		w.meet("an address of a removed host given to another")
	} else if taken && !other.is(to.host, to.container) {
		w.fault("(1) (2) %s was given %s, which %s holds", to, addr, other)
	}
	if owner != to.host.self {
		w.fault("(4) %s (%s) was given %s, which belongs to %s by decision %d", to, to.host.self.Short(), addr, owner.Short(), decided)
	}
}

// learn updates the newest state of the ledger that any host has.
func (w *world) learn() {
	w.mu.Lock()
	machines := slices.Concat(w.hosts, w.twins)
	w.mu.Unlock()
	for _, h := range machines {
		a := h.agent()
		if a == nil {
			continue
		}
		v := a.View()
		w.mu.Lock()
		w.heard(v)
		w.mu.Unlock()
	}
}

// heard compares one host's state of the ledger with the newest one. The caller holds mu.
func (w *world) heard(v *netmap.View) {
	if v.Generation > w.decided.Generation {
		w.before, w.decided = w.decided, v
	}
	for _, known := range []**netmap.View{&w.decided, &w.before} {
		if v.Generation == (*known).Generation && v.Decided > (*known).Decided {
			*known = v
		}
	}
}

// belongs returns which host owns an address according to the ledger. After a recovery it includes
// what only the lost keepers knew, until the owner has declared that to the recovered ledger. The
// caller holds mu.
func (w *world) belongs(addr netip.Addr) netmap.HostID {
	if owner := w.decided.Owner(addr); !owner.IsZero() {
		return owner
	}
	return w.before.Owner(addr)
}

// observe counts refusals by their kinds.
func (h *host) observe(d rpc.Done) {
	var refusal *netmap.Refusal
	var bad *rpc.BadRequest
	switch {
	case errors.As(d.Err, &refusal):
		h.w.meet("refused: " + string(refusal.Kind))
	case errors.As(d.Err, &bad):
		h.w.meet("refused: a bad request")
	case d.Err != nil:
		h.w.meet("failed: " + d.Method)
	}
}

// checkDisk opens a copy of the disk that a crash left. Every address that Docker was given is on
// it (invariant 3).
func (h *host) checkDisk(dir string) {
	probe := dir + ".probe"
	defer os.RemoveAll(probe)
	if err := os.CopyFS(probe, os.DirFS(dir)); err != nil {
		h.w.t.Fatal(err)
	}
	s, err := store.Open(probe)
	if err != nil {
		h.w.fault("(3) %s: the disk after a crash: %v", h, err)
		return
	}
	defer s.Close()
	records, err := s.Bucket("ipam").Load()
	if err != nil {
		h.w.fault("(3) %s: the disk after a crash: %v", h, err)
	}
	h.w.mu.Lock()
	var missing []string
	for addr, who := range h.w.held {
		var use pool.Use
		if who.host == h && (json.Unmarshal(records["addr/"+addr.String()], &use) != nil || !use.Held) {
			missing = append(missing, addr.String())
		}
	}
	h.w.mu.Unlock()
	if len(missing) > 0 {
		h.w.fault("(3) %s: after a crash its disk does not hold %s, which Docker was answered", h, strings.Join(missing, ", "))
	}
}

// checkHolders compares the containers of all Dockers at the end. No two of them have the same
// address.
func (w *world) checkHolders() {
	seen := map[netip.Addr]string{}
	for _, h := range w.hosts {
		for _, c := range w.connected(h) {
			for _, a := range c.Addrs {
				if other, twice := seen[a.Addr()]; twice {
					w.fault("(1) %s is held by %s and by %s on %s", a.Addr(), other, c.Name, h)
				}
				seen[a.Addr()] = c.Name + " on " + h.String()
			}
		}
	}
}

// differences returns what still differs between the hosts; it is empty once every view is
// the same and every kernel is as it should be (invariant 8).
func (w *world) differences() string {
	first := w.hosts[0].agent().View()
	for _, h := range w.hosts {
		view, want := h.agent().View(), h.agent().Desired()
		if diff := cmp.Diff(first, view, plain); diff != "" {
			return fmt.Sprintf("%s and %s see different facts (-%s +%s):\n%s", w.hosts[0], h, w.hosts[0], h, diff)
		}
		if want.Keep {
			return fmt.Sprintf("%s is not synced", h)
		}
		if diff := cmp.Diff(want.Networks, h.kernel.Read().Networks, plain); diff != "" {
			return fmt.Sprintf("the kernel of %s is not what its facts say (-facts +kernel):\n%s", h, diff)
		}
	}
	return ""
}

// unlike returns where a kernel does not forward to exactly the containers that the Dockers run.
func (w *world) unlike() string {
	for _, h := range w.hosts {
		if diff := cmp.Diff(w.forwards(h), forwarding(h.kernel.Read())); diff != "" {
			return fmt.Sprintf("the kernel of %s does not forward to the containers that there are (-containers +kernel):\n%s", h, diff)
		}
	}
	return ""
}

var plain = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Exporter(func(t reflect.Type) bool { return strings.HasSuffix(t.PkgPath(), "/netmap") }),
}

// forwards returns what the kernel of a host must forward, computed from all Dockers and from what
// hosts have themselves: for each address on a network of this host, the MAC, and the remote host or
// the local port.
func (w *world) forwards(h *host) []string {
	var out []string
	mine := w.subnets(h)
	for _, o := range w.hosts {
		for _, c := range w.connected(o) {
			for _, a := range c.Addrs {
				if !mine[a.Masked()] {
					continue
				}
				to := o.addr.String()
				if o == h {
					to = "port " + datapath.OuterName(c.Endpoint)
				}
				out = append(out, fmt.Sprintf("%s is at %s via %s", a.Addr(), c.MAC, to))
			}
		}
		for _, p := range o.kernel.HostPorts() {
			to := o.addr.String()
			if o == h {
				to = "port " + datapath.OuterPrefix + strings.TrimPrefix(p.Name, datapath.InnerPrefix)
			}
			for _, a := range p.Addrs {
				if slices.ContainsFunc(p.Subnets, func(s netip.Prefix) bool { return mine[s] && s.Contains(a) }) {
					out = append(out, fmt.Sprintf("%s is at %s via %s", a, netmap.MACOf(p.Addrs[0]), to))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// connected returns the containers of a host that should be on the network: all except those that
// lost their address while the host was removed.
func (w *world) connected(h *host) []plugintest.Container {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(h.docker.Containers(), func(c plugintest.Container) bool {
		lost := func(a netip.Prefix) bool { return !w.held[a.Addr()].is(h, c.Name) }
		return w.fateful && slices.ContainsFunc(c.Addrs, lost)
	})
}

func (w *world) subnets(h *host) map[netip.Prefix]bool {
	out := map[netip.Prefix]bool{}
	networks, _ := h.docker.Networks(w.t.Context()) // the engine's API is not broken here
	for _, n := range networks {
		for _, s := range h.docker.Subnets(n.ID) {
			out[s] = true
		}
	}
	return out
}

// forwarding returns what a kernel forwards, in the form of forwards.
func forwarding(s datapath.State) []string {
	var out []string
	for _, n := range s.Networks {
		via := map[netmap.MAC]string{}
		for _, b := range n.Bridging {
			via[b.MAC] = "port " + b.Port
		}
		for _, t := range n.FDB {
			via[t.MAC] = t.VTEP.String()
		}
		for _, e := range n.Neighbours {
			out = append(out, fmt.Sprintf("%s is at %s via %s", e.Addr, e.MAC, via[e.MAC]))
		}
	}
	slices.Sort(out)
	return out
}

// used counts the addresses in use of each own block.
func (h *host) used() map[netip.Prefix]uint64 {
	out := map[netip.Prefix]uint64{}
	for _, n := range h.agent().Report().Networks {
		for _, s := range n.Subnets {
			for _, b := range s.Blocks {
				if b.Used != nil {
					out[b.Prefix] = *b.Used
				}
			}
		}
	}
	return out
}

func (w *world) counts() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, what := range slices.Sorted(maps.Keys(w.met)) {
		out = append(out, fmt.Sprintf("%d× %s", w.met[what], what))
	}
	return strings.Join(out, ", ")
}
