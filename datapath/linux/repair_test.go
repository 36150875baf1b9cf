package linux

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// TestIntegrationWhateverIsDeletedComesBack: any device or entry that somebody deletes is noticed by the
// comparison that dataplane.Follow makes every 8 s, and is back after a Set that counts it. WEFT_REPAIRS
// deletions, chosen by WEFT_SEED.
func TestIntegrationWhateverIsDeletedComesBack(t *testing.T) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return n
		}
		return otherwise
	}
	seed := number("WEFT_SEED", int(rand.Uint32()))
	t.Logf("WEFT_SEED=%d", seed)
	choose := rand.New(rand.NewPCG(uint64(seed), 0))
	r := newRig(t, 2, 1500)
	r.network(1, true)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	r.hosts[1].start(1, 3)
	r.sync()
	h := r.hosts[0]
	model := datapath.NewModel(h.id)
	model.Update(h.view.WithEndpoints(h.known...), h.local, nil)
	for n := range number("WEFT_REPAIRS", 20) {
		var deletions []datapath.Op
		for _, op := range datapath.Diff(h.read(), datapath.State{}) {
			if op.Object != datapath.APort { // with its veth pair the container loses its interface
				deletions = append(deletions, op)
			}
		}
		deletions = append(deletions, entriesOf(h.read(), h.device(1))...)
		op := deletions[choose.IntN(len(deletions))]
		what := fmt.Sprintf("%d: %s", n, op)
		if op.Object < datapath.ATunnel {
			check(t, h.k.device(op))
		} else {
			alter(t, h.k.overlay, []datapath.Op{op})
		}
		have, err := h.k.Devices(t.Context())
		check(t, err)
		if model.HasDevices(have) {
			audit := model.Audit(h.device(1).VNI)
			_, err := h.k.Entries(t.Context(), h.device(1).VNI, audit.Entry)
			check(t, err)
			if audit.Right() {
				t.Errorf("%s: nothing is noticed", what)
			}
		}
		if report := h.set(); report.Done == 0 {
			t.Errorf("%s: no repair is counted", what)
		}
		h.isWanted()
		if t.Failed() {
			t.Fatal(what)
		}
	}
	a.reaches(b.port.V4, b.port.V6)
}

// entriesOf returns the operations that delete what the tables of a network have.
func entriesOf(s datapath.State, d datapath.Device) (out []datapath.Op) {
	bare := datapath.State{Networks: []datapath.Network{{Device: d, Ports: s.Networks[0].Ports}}}
	for _, op := range datapath.Diff(s, bare) {
		if op.Object >= datapath.ATunnel && op.Verb == datapath.Delete {
			out = append(out, op)
		}
	}
	return out
}

// TestIntegrationPermanentNeighboursAreExempt from the kernel's limit of its neighbour tables, which is
// of the whole machine and 1,024 unless somebody raised it: 50,000 are programmed.
func TestIntegrationPermanentNeighboursAreExempt(t *testing.T) {
	const many = 50_000
	r := newRig(t, 1, 1500)
	r.network(1, true)
	h := r.hosts[0]
	h.set()
	limit, err := os.ReadFile("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
	check(t, err)
	if n, err := strconv.Atoi(strings.TrimSpace(string(limit))); err != nil || n >= many {
		t.Skipf("this machine allows %s neighbours (%v), so that they prove nothing", limit, err)
	}
	var ops []datapath.Op
	for n := range many {
		addr := netip.AddrFrom4([4]byte{10, 33, byte(n >> 8), byte(n)})
		ops = append(ops, datapath.Op{Verb: datapath.Add, Object: datapath.ANeighbour, Device: h.device(1), Addr: addr, MAC: netmap.MACOf(addr)})
	}
	report, err := h.k.Apply(t.Context(), ops)
	if err != nil || report.Done != many {
		t.Fatalf("%d of %d entries: %v", report.Done, many, err)
	}
	if n, _ := h.read().Network(h.device(1).VNI); len(n.Neighbours) != many {
		t.Errorf("the kernel has %d neighbours of %d", len(n.Neighbours), many)
	}
}
