package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
)

// answerWithin is how long WhoHas waits. Containers answer within some microseconds, those of other hosts within the
// underlay's round trip.
const answerWithin = 30 * time.Millisecond

// asker is who WhoHas asks as: a MAC that nobody has, so that ARP's answers are flooded, and pass the tunnel's device wherever
// they come from. Those of ND are multicasts to everybody, so the bridge gets them.
var asker = netmap.MAC{0x0a, 0x57, 0xff, 0, 0, 1}

// WhoHas asks all containers of a network who uses an address, by an ARP probe (RFC 5227) or as duplicate-address
// detection does (RFC 4862), and returns the MAC of the first that answers, zero if none does. Without multicast on the network
// only the containers of this host are asked. If this host has no container on the network, nobody is. It waits for no change of
// the overlay.
func (k *Kernel) WhoHas(vni netmap.VNI, a netip.Addr) (mac netmap.MAC, err error) {
	overlay := k.asking.Load()
	if overlay == nil {
		return mac, nil
	}
	fd, bridge := -1, 0
	err = overlay.Do(func() (err error) {
		if bridge, err = indexOf(datapath.BridgeName(vni)); err != nil {
			return err
		}
		at := bridge
		if a.Is4() {
			if at, err = indexOf(datapath.VXLANName(vni)); err != nil {
				return err
			}
		}
		fd, err = listen(at, answersAbout(a))
		return err
	})
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EBADF): // closed meanwhile
		return mac, nil
	case err != nil:
		return mac, fmt.Errorf("linux: ask who has %s: %w", a, err)
	}
	defer func() { go unix.Close(fd) }() //nolint:errcheck // it has nothing to lose, and waits for a grace period of the kernel
	if err := unix.Sendto(fd, question(a), 0, &unix.SockaddrLinklayer{Ifindex: bridge}); err != nil {
		return mac, fmt.Errorf("linux: ask who has %s: %w", a, err)
	}
	frame := make([]byte, 128)
	n, _, err := unix.Recvfrom(fd, frame, 0)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
		return mac, nil
	case err != nil || n < 12:
		return mac, fmt.Errorf("linux: who has %s: %d bytes, %w", a, n, err)
	}
	return netmap.MAC(frame[6:12]), nil
}

// indexOf finds a device in the namespace of the calling thread, without netlink, which waits for other changes of devices.
func indexOf(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }() // nothing waits in it
	req, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
	}
	if err != nil {
		return 0, err
	}
	return int(req.Uint32()), nil
}

// listen opens a socket for what passes a device and a filter, in the namespace of the calling thread.
func listen(device int, filter []unix.SockFilter) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	wait := unix.NsecToTimeval(answerWithin.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: device}),
	)
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// Types of ICMPv6 messages (RFC 4861).
const (
	solicitation  = 135
	advertisement = 136
)

// question is the frame that asks who has an address.
func question(a netip.Addr) []byte {
	b := binary.BigEndian
	if a.Is4() {
		frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, asker[:]...)
		frame = append(b.AppendUint16(frame, unix.ETH_P_ARP), 0, 1, 8, 0, 6, 4, 0, 1)
		frame = append(append(frame, asker[:]...), 0, 0, 0, 0)
		return append(append(frame, 0, 0, 0, 0, 0, 0), a.AsSlice()...)
	}
	target := a.As16()
	group := [16]byte{0xff, 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
	frame := append([]byte{0x33, 0x33, 0xff, target[13], target[14], target[15]}, asker[:]...)
	frame = append(b.AppendUint16(frame, unix.ETH_P_IPV6), 0x60, 0, 0, 0, 0, 24, unix.IPPROTO_ICMPV6, 255)
	frame = append(append(frame, make([]byte, 16)...), group[:]...)
	message := append([]byte{solicitation, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	b.PutUint16(message[2:], checksum(group, message))
	return append(frame, message...)
}

// checksum is that of an ICMPv6 message from no address (RFC 8200, 8.1).
func checksum(to [16]byte, message []byte) uint16 {
	sum := uint32(len(message)) + unix.IPPROTO_ICMPV6
	for _, part := range [][]byte{to[:], message} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// answersAbout is a filter that passes ARP replies and neighbour advertisements about an address.
func answersAbout(a netip.Addr) []unix.SockFilter {
	var out []unix.SockFilter
	is := func(size uint16, offset, value uint32) {
		out = append(out,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: offset},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value})
	}
	raw := a.AsSlice()
	if a.Is4() {
		is(unix.BPF_H, 12, unix.ETH_P_ARP)
		is(unix.BPF_H, 20, 2) // a reply
		is(unix.BPF_W, 28, binary.BigEndian.Uint32(raw))
	} else {
		is(unix.BPF_H, 12, unix.ETH_P_IPV6)
		is(unix.BPF_B, 20, unix.IPPROTO_ICMPV6)
		is(unix.BPF_B, 54, advertisement)
		for i := uint32(0); i < 16; i += 4 {
			is(unix.BPF_W, 62+i, binary.BigEndian.Uint32(raw[i:]))
		}
	}
	for i := 1; i < len(out); i += 2 {
		out[i].Jf = uint8(len(out) - i) // behind the next instruction of the end
	}
	return append(out, unix.SockFilter{Code: unix.BPF_RET, K: 128}, unix.SockFilter{Code: unix.BPF_RET})
}
