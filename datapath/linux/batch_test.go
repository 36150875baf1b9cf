package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// decode reads messages back with the library, whose words are compared.
func decode(t *testing.T, b []byte) (out []string) {
	t.Helper()
	for len(b) > 0 {
		size := binary.NativeEndian.Uint32(b)
		if size%unix.NLMSG_ALIGNTO != 0 || int(size) > len(b) {
			t.Fatalf("a message of %d bytes, %d are there", size, len(b))
		}
		kind, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		n, err := netlink.NeighDeserialize(b[unix.SizeofNlMsghdr:size])
		if err != nil {
			t.Fatal(err)
		}
		own, message := netlink.Neigh{MasterIndex: 9}, b[unix.SizeofNlMsghdr:size]
		if !decodeNeigh(message, &own) || own.MasterIndex != n.MasterIndex || entryText(&own) != entryText(n) {
			t.Errorf("a message that is read as %s is of %s", entryText(&own), entryText(n))
		}
		if decodeNeigh(message[:len(message)-3], &own) {
			t.Errorf("a message that is cut off is read as %s", entryText(&own))
		}
		out = append(out, fmt.Sprintf("%d: %s %s", binary.NativeEndian.Uint32(b[8:]), verb(kind, flags), entryText(n)))
		b = b[size:]
	}
	return out
}

func verb(kind, flags uint16) string {
	switch {
	case kind == unix.RTM_DELNEIGH:
		return "del"
	case flags&unix.NLM_F_APPEND != 0:
		return "append"
	case flags&unix.NLM_F_REPLACE != 0:
		return "replace"
	}
	return "?"
}

func entryText(n *netlink.Neigh) string {
	words := []string{fmt.Sprintf("family %d dev %d", n.Family, n.LinkIndex)}
	if n.IP != nil {
		words = append(words, n.IP.String())
	}
	if n.HardwareAddr != nil {
		words = append(words, n.HardwareAddr.String())
	}
	for flag, name := range map[int]string{netlink.NTF_SELF: "self", netlink.NTF_MASTER: "master"} {
		if n.Flags&flag != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(append(words, fmt.Sprintf("state %#x", n.State)), " ")
}

func TestMessages(t *testing.T) {
	links := map[string]int{device.Bridge: 2, device.VXLAN: 3, "wfp1": 4}
	mac := netmap.MACOf(netip.MustParseAddr("10.32.0.1"))
	vtep, addr6 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("fd00::1")
	ops := []datapath.Op{
		{Verb: datapath.Add, Object: datapath.ATunnel, Device: device, MAC: mac, Addr: vtep},
		{Verb: datapath.Add, Object: datapath.ATunnel, Device: device, MAC: mac, Addr: netip.MustParseAddr("2001:db8::2")},
		{Verb: datapath.Add, Object: datapath.AFlood, Device: device, Addr: vtep},
		{Verb: datapath.Add, Object: datapath.ABridging, Device: device, MAC: mac, Port: datapath.Bridged{Name: "wfp1"}},
		{Verb: datapath.Add, Object: datapath.ANeighbour, Device: device, MAC: mac, Addr: netip.MustParseAddr("10.32.0.1")},
		{Verb: datapath.Delete, Object: datapath.ANeighbour, Device: device, MAC: mac, Addr: addr6},
		{Verb: datapath.Delete, Object: datapath.AFlood, Device: device, Addr: vtep},
		{Verb: datapath.Delete, Object: datapath.ATunnel, Device: device, MAC: mac, Addr: vtep},
	}
	want := []string{
		"1: replace family 7 dev 3 192.0.2.2 02:57:0a:20:00:01 self state 0x42",
		"2: replace family 7 dev 3 2001:db8::2 02:57:0a:20:00:01 self state 0x42",
		"3: append family 7 dev 3 192.0.2.2 00:00:00:00:00:00 self state 0x42",
		"4: replace family 7 dev 4 02:57:0a:20:00:01 master state 0x42",
		"5: replace family 2 dev 2 10.32.0.1 02:57:0a:20:00:01 state 0x80",
		"6: del family 10 dev 2 fd00::1 state 0x80",
		"7: del family 7 dev 3 192.0.2.2 00:00:00:00:00:00 self state 0x42",
		"8: del family 7 dev 3 192.0.2.2 02:57:0a:20:00:01 self state 0x42",
	}
	var b []byte
	for i, op := range ops {
		e, ok := newEntry(op, links)
		if !ok {
			t.Fatal(op)
		}
		b = e.appendMessage(b, uint32(i+1))
	}
	for i, got := range decode(t, b) {
		if got != want[i] {
			t.Errorf("%s\n got %s\nwant %s", ops[i], got, want[i])
		}
	}
	if _, ok := newEntry(ops[0], map[string]int{}); ok {
		t.Error("an entry of a device that is not there")
	}
}

// The library writes the same bytes; it cannot send many at once.
func TestMessagesAreTheLibrarys(t *testing.T) {
	op := datapath.Op{Verb: datapath.Add, Object: datapath.ATunnel, Device: device, MAC: netmap.MAC{2, 1}, Addr: netip.MustParseAddr("192.0.2.2")}
	e, _ := newEntry(op, map[string]int{device.VXLAN: 3})
	req := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	req.Seq = 7
	req.AddData(&netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: 3, State: static, Flags: netlink.NTF_SELF})
	req.AddData(nl.NewRtAttr(unix.NDA_DST, op.Addr.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, op.MAC[:]))
	if got, want := e.appendMessage(nil, 7), req.Serialize(); string(got) != string(want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestExcuses(t *testing.T) {
	del := entry{op: datapath.Op{Verb: datapath.Delete}}
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ENODEV, unix.ESRCH} {
		if err := del.excuse(errno); err != nil {
			t.Errorf("deleting what is not there: %v", err)
		}
	}
	if err := del.excuse(unix.EPERM); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
	add := entry{op: datapath.Op{Verb: datapath.Add}}
	if err := add.excuse(unix.ENOENT); !errors.Is(err, unix.ENOENT) {
		t.Errorf("adding to what is not there: %v", err)
	}
	if err := (entry{append: true}).excuse(unix.EEXIST); err != nil {
		t.Errorf("a VTEP that is on the list: %v", err)
	}
	full := entry{op: datapath.Op{Verb: datapath.Add, Object: datapath.ANeighbour}}
	if err := full.excuse(unix.ENOBUFS); !errors.Is(err, unix.ENOBUFS) || !strings.Contains(err.Error(), "gc_thresh3") {
		t.Errorf("a full table: %v", err)
	}
}

func TestFailuresAreTold(t *testing.T) {
	var r Report
	if r.err() != nil {
		t.Error("nothing failed")
	}
	for range 7 {
		r.Failed = append(r.Failed, Failure{datapath.Op{Verb: datapath.Delete, Object: datapath.ABridge, Device: device}, unix.EPERM})
	}
	err := r.err()
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "ip link del wfb100001: operation not permitted") || !strings.Contains(err.Error(), "and 2 more") {
		t.Error(err)
	}
}
