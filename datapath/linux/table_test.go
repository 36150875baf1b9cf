package linux

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BenchmarkForwardingTable is a packet to a random entry of a VXLAN device's table, by its
// size. The destination of the entries has no route, so a packet ends after the lookup: what
// differs between sizes is the lookup. Kernels before 6.16 have 256 buckets, later ones a
// table that grows (docs/decisions/0040).
func BenchmarkForwardingTable(b *testing.B) {
	for _, entries := range []int{10, 1_000, 10_000, 50_000} {
		b.Run(fmt.Sprint(entries), func(b *testing.B) {
			s, device := deviceWith(b, entries)
			fd := -1
			check(b, s.ns.Do(func() (err error) {
				fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
				return err
			}))
			defer func() { check(b, unix.Close(fd)) }()
			frame, to := make([]byte, 60), &unix.SockaddrLinklayer{Ifindex: device}
			binary.BigEndian.PutUint16(frame[12:], 0x88b5) // an EtherType for experiments
			used := processTime(b)
			for b.Loop() {
				copy(frame, entryMAC(rand.IntN(entries)))
				if err := unix.Sendto(fd, frame, 0, to); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(processTime(b)-used)/float64(b.N), "cpu-ns/op") // whatever else the machine does
		})
	}
}

// processTime is the processor time of this process in nanoseconds.
func processTime(b *testing.B) int64 {
	b.Helper()
	var t unix.Timespec
	check(b, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t))
	return t.Nano()
}

func entryMAC(n int) net.HardwareAddr {
	return net.HardwareAddr(binary.BigEndian.AppendUint32([]byte{2, 0}, 10<<24+uint32(n)))
}

// deviceWith is a namespace with a VXLAN device that has so many entries, and its index.
func deviceWith(b *testing.B, entries int) (*space, int) {
	b.Helper()
	if os.Getuid() != 0 {
		b.Skip("network namespaces need root")
	}
	s := newSpace(b)
	link := &netlink.Vxlan{LinkAttrs: attrs("vx0", 1450), VxlanId: 42, Port: 4790, SrcAddr: net.IP{192, 0, 2, 1}}
	check(b, s.LinkAdd(link))
	s.up(b, "vx0")
	for n := range entries {
		check(b, s.NeighAppend(&netlink.Neigh{
			LinkIndex: link.Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
			IP: net.IP{192, 0, 2, byte(n)}, HardwareAddr: entryMAC(n),
		}))
	}
	return s, link.Index
}
