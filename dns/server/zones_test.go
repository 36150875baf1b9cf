package server

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// raw is a server on bytes.
func raw(t *testing.T, reply func(query []byte) [][]byte) netip.AddrPort {
	t.Helper()
	packets, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { _ = packets.Close() })
	go func() {
		buffer := make([]byte, mdns.MaxMsgSize)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			for _, b := range reply(bytes.Clone(buffer[:n])) {
				_, _ = packets.WriteTo(b, from) // the test notices
			}
		}
	}()
	return netip.MustParseAddrPort(packets.LocalAddr().String())
}

// Nothing of a forwarded query or its reply is changed: not the case of the name, not what
// nobody knows, not trailing bytes. Replies to other queries do not count.
func TestForwardedBytesAreUnchanged(t *testing.T) {
	msg := new(mdns.Msg).SetQuestion("wEb.SeRvIcE.cOnSuL.", mdns.TypeANY)
	msg.SetEdns0(4096, true)
	msg.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_LOCAL{Code: 65001, Data: []byte("unknown")}}
	packed, err := msg.Pack()
	check(t, err)
	packed = append(packed, "rest"...)
	asked := make(chan []byte, 1)
	want := append(refusal(packed, mdns.RcodeSuccess), bytes.Repeat([]byte{0xff, 7}, 3000)...)
	at := raw(t, func(query []byte) [][]byte {
		asked <- query
		otherID, otherName, noReply := bytes.Clone(want), bytes.Clone(want), bytes.Clone(query)
		otherID[0]++
		otherName[headerSize+1] = 'x'
		return [][]byte{nil, {1}, otherID, otherName, noReply, want}
	})
	conn := host(t, config(NewZones(map[string][]netip.AddrPort{"consul": {at}}))).dial(t, "udp")
	_, err = conn.Write(packed)
	check(t, err)
	if got := <-asked; !bytes.Equal(got, packed) {
		t.Errorf("the zone's server got %x, want %x", got, packed)
	}
	buffer := make([]byte, mdns.MaxMsgSize)
	check(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	n, err := conn.Read(buffer)
	if err != nil || !bytes.Equal(buffer[:n], want) {
		t.Errorf("%d bytes (%v), want the reply of %d bytes", n, err, len(want))
	}
}

func TestADeadServerIsTriedAgain(t *testing.T) {
	t.Parallel() // waits for the time-out
	var answers atomic.Bool
	at := raw(t, func(query []byte) [][]byte {
		if !answers.Load() {
			return nil
		}
		return [][]byte{refusal(query, mdns.RcodeNameError)}
	})
	s := &zoneServer{at: at}
	packet, err := new(mdns.Msg).SetQuestion("web.consul.", mdns.TypeA).Pack()
	check(t, err)
	q := query{bytes: packet}
	if _, err := s.ask(t.Context(), q); err == nil {
		t.Fatal("it answered")
	}
	now := time.Now()
	if dead, try := s.state(now); !dead || try {
		t.Errorf("at once: dead %v, try %v", dead, try)
	}
	later := now.Add(2 * deadFor)
	if dead, try := s.state(later); !dead || !try {
		t.Errorf("later: dead %v, try %v", dead, try)
	}
	if _, try := s.state(later); try {
		t.Error("a second query tries, too")
	}
	answers.Store(true)
	if _, err := s.ask(t.Context(), q); err != nil || s.problem() != nil {
		t.Errorf("%v, problem %v", err, s.problem())
	}
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.ask(cut, q); err == nil || s.problem() != nil {
		t.Errorf("an exchange that we end says nothing of the server: %v, problem %v", err, s.problem())
	}
}

// The second server answers while the first is dead.
func TestAZoneWithTwoServers(t *testing.T) {
	refused, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	check(t, err)
	check(t, refused.Close())
	at := raw(t, func(query []byte) [][]byte { return [][]byte{refusal(query, mdns.RcodeNameError)} })
	zones := NewZones(map[string][]netip.AddrPort{"consul": {netip.MustParseAddrPort(refused.LocalAddr().String()), at}})
	conn := host(t, config(zones)).dial(t, "udp")
	wantAnswer(t, conn, "web.consul.", "NXDOMAIN")
	if zones.Problem() == "" {
		t.Error("no problem with a server that refuses")
	}
	if err := zones.zones[0].servers[1].problem(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
