package linux

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// modelled is a host that is told changes in place of whole states.
type modelled struct {
	*labHost
	model *datapath.Model
}

// update does what an agent does after a change, and returns the number of operations.
func (m modelled) update(unplugged ...datapath.Port) int {
	m.Helper()
	ops, whole := m.model.Update(m.view.WithEndpoints(m.known...), m.local, unplugged)
	var report Report
	var err error
	if whole {
		report, err = m.k.Set(m.Context(), m.model.State())
	} else {
		report, err = m.k.Apply(m.Context(), slices.Collect(ops))
	}
	check(m, err)
	return report.Done
}

// right reports whether devices and tables are as the model says, read entry by entry.
func (m modelled) right() bool {
	m.Helper()
	have, err := m.k.Devices(m.Context())
	check(m, err)
	right := m.model.HasDevices(have)
	for _, vni := range m.model.VNIs() {
		audit := m.model.Audit(vni)
		complete, err := m.k.Entries(m.Context(), vni, audit.Entry)
		check(m, err)
		right = right && complete && audit.Right()
	}
	return right
}

// TestIntegrationChangesAreApplied: what follows from changes alone makes the kernel what a
// whole state makes it, and packets flow.
func TestIntegrationChangesAreApplied(t *testing.T) {
	r := newRig(t, 3, 1500)
	r.network(1, true)
	m := modelled{r.hosts[0], datapath.NewModel(r.hosts[0].id)}
	all := func(unplugged ...datapath.Port) {
		t.Helper()
		m.update(unplugged...)
		r.hosts[1].set()
		r.hosts[2].set()
		m.isWanted()
		if !m.right() {
			t.Error("an audit says that the kernel is not right")
		}
	}
	all()
	bridge, err := m.k.overlay.LinkByName(m.device(1).Bridge)
	check(t, err)
	a, b := r.hosts[0].start(1, 1), r.hosts[1].start(1, 2)
	all()
	a.reaches(b.port.V4, b.port.V6)
	b.stop()
	all()
	b = r.hosts[2].start(1, 2)
	all()
	a.reaches(b.port.V4, b.port.V6)
	if n := m.update(); n > 0 {
		t.Errorf("%d operations although nothing has changed", n)
	}

	// An address that another host announces is plugged and unplugged here before anybody looks.
	here := endpoint(1, 2)
	here.Endpoint = endpoint(1, 9).Endpoint
	_, err = m.k.Plug(t.Context(), datapath.Plugged{Device: m.device(1), Port: here})
	check(t, err)
	check(t, m.k.Unplug(t.Context(), here.Endpoint))
	all(here)
	same, err := m.k.overlay.LinkByName(m.device(1).Bridge)
	check(t, err)
	if was, is := bridge.Attrs().HardwareAddr, same.Attrs().HardwareAddr; !bytes.Equal(was, is) {
		t.Errorf("the bridge had MAC %s and has %s: the kernel dropped its neighbours", was, is)
	}
	a.reaches(b.port.V4, b.port.V6)

	r.network(2, true)
	all()
	m.local.Networks = m.local.Networks[:1]
	all()
	m.local.UnderlayMTU = 1400
	all()
	a.stop()
	all(a.port)
}

// TestIntegrationAnAuditFindsDrift: each thing that somebody else changes is noticed.
func TestIntegrationAnAuditFindsDrift(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.network(1, true)
	m := modelled{r.hosts[0], datapath.NewModel(r.hosts[0].id)}
	r.hosts[0].start(1, 1)
	r.hosts[1].start(1, 2)
	m.update()
	if !m.right() {
		t.Fatal("not right before anybody changed it")
	}
	there := endpoint(1, 2)
	elsewhere := netip.MustParseAddr("192.0.2.77")
	op := func(verb datapath.Verb, o datapath.Object, mac netmap.MAC, addr netip.Addr) datapath.Op {
		return datapath.Op{Verb: verb, Object: o, Device: m.device(1), MAC: mac, Addr: addr, Port: datapath.Bridged{Name: m.device(1).VXLAN}}
	}
	for name, one := range map[string]datapath.Op{
		"a tunnel is gone":         op(datapath.Delete, datapath.ATunnel, there.HardwareAddr(), r.hosts[1].local.Source),
		"a tunnel leads elsewhere": op(datapath.Add, datapath.ATunnel, there.HardwareAddr(), elsewhere),
		"a bridge entry is gone":   op(datapath.Delete, datapath.ABridging, there.HardwareAddr(), netip.Addr{}),
		"an answer is gone":        op(datapath.Delete, datapath.ANeighbour, netmap.MAC{}, there.V4),
		"an answer of IPv6":        op(datapath.Delete, datapath.ANeighbour, netmap.MAC{}, there.V6),
		"one too many":             op(datapath.Add, datapath.ANeighbour, netmap.MAC{2}, netip.MustParseAddr("10.32.0.99")),
		"flooding elsewhere":       op(datapath.Add, datapath.AFlood, netmap.MAC{}, elsewhere),
	} {
		alter(t, m.k.overlay, []datapath.Op{one})
		if m.right() {
			t.Errorf("%s, and the audit does not notice", name)
		}
		_, err := m.k.Set(t.Context(), m.model.State())
		check(t, err)
		if !m.right() {
			t.Errorf("%s: not right after the repair", name)
		}
	}
	down(t, m.k.overlay, "wfx100001")
	if m.right() {
		t.Error("a device is down, and nobody notices")
	}
}

// BenchmarkChange is one event on a host whose kernel has many endpoints: by the change alone,
// and by the whole state. An audit compares all tables entry by entry. Only the ratios carry
// over.
func BenchmarkChange(b *testing.B) {
	const endpoints = 50_000
	r := newRig(b, 3, 1500)
	r.network(1, true)
	m := modelled{r.hosts[0], datapath.NewModel(r.hosts[0].id)}
	known := make([]netmap.EndpointView, 0, endpoints)
	for i := range endpoints {
		ip := netip.AddrFrom4([4]byte{10, 33 + byte(i>>16), byte(i >> 8), byte(i)})
		p := datapath.Port{Endpoint: endpoint(1, i).Endpoint, Network: 1, V4: ip}
		known = append(known, netmap.EndpointView{Host: r.hosts[1+i%2].id, Endpoint: netmap.Endpoint{ID: p.Endpoint, Network: 1, V4: ip}})
	}
	full, less := r.view.WithEndpoints(known...), r.view.WithEndpoints(known[1:]...)
	model := func(view *netmap.View) {
		if _, whole := m.model.Update(view, m.local, nil); whole {
			_, err := m.k.Set(b.Context(), m.model.State())
			check(b, err)
		}
	}
	model(full)
	at := [2]*netmap.View{less, full}
	bench := func(name string, one func(i int)) {
		b.Run(name, func(b *testing.B) {
			i, before := 0, cpu(b)
			for b.Loop() {
				one(i)
				i++
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(i), "cpu-µs/op")
		})
	}
	bench("change", func(i int) {
		ops, _ := m.model.Update(at[i%2], m.local, nil)
		_, err := m.k.Apply(b.Context(), slices.Collect(ops))
		check(b, err)
	})
	model(full)
	bench("whole", func(i int) {
		_, err := m.k.Set(b.Context(), datapath.Desired(at[i%2], m.id, m.local))
		check(b, err)
	})
	model(full)
	bench("audit", func(int) { m.right() })
}

// cpu returns the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	check(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
