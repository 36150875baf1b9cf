package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

const (
	wantsZones  = "zones with an address like consul=127.0.0.1:8600,mesos=10.0.0.5, comma separated; a zone may come twice"
	wantsListen = "an address with a port like 127.0.0.55:53 or [::1]:53, or empty"

	dnsPort = 53
)

// labelForm is a label of a zone's name: what hosts have, and underscores (RFC 8552).
var labelForm = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// parseZones reads the servers of zones. Those of one zone are asked in the order in which they
// are written.
func parseZones(s *Settings, v string) error {
	s.DNS.Zones = nil
	if v == "" {
		return nil
	}
	zones := map[string][]netip.AddrPort{}
	for word := range strings.SplitSeq(v, ",") {
		name, server, ok := strings.Cut(strings.TrimSpace(word), "=")
		if !ok {
			return fmt.Errorf("%q has no address", word)
		}
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if !isZone(name) {
			return fmt.Errorf("%q is not the name of a zone", name)
		}
		at, err := parseServer(server)
		if err != nil {
			return fmt.Errorf("zone %s: %w", name, err)
		}
		if slices.Contains(zones[name], at) {
			return fmt.Errorf("zone %s has %s twice", name, at)
		}
		zones[name] = append(zones[name], at)
	}
	s.DNS.Zones = zones
	return nil
}

// isZone reports whether a name in lower case, without a dot at its end, may be a zone's. The
// root is none: queries for it belong to Docker's resolver.
func isZone(name string) bool {
	const mostBytes = 253
	if len(name) > mostBytes {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !labelForm.MatchString(label) {
			return false
		}
	}
	return true
}

// parseServer reads an address to send queries to, with or without a port.
func parseServer(v string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(v)
	if err != nil {
		addr, err := netip.ParseAddr(v)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is not an address", v)
		}
		at = netip.AddrPortFrom(addr, dnsPort)
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if a := at.Addr(); at.Port() == 0 || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%s is not an address of a DNS server", v)
	}
	return at, nil
}

// parseListen takes one address: at all addresses of the host at once, answers would come from
// other addresses than the one that was asked, and from all interfaces.
func parseListen(s *Settings, v string) error {
	s.DNS.Listen = netip.AddrPort{}
	if v == "" {
		return nil
	}
	at, err := netip.ParseAddrPort(v)
	switch {
	case err != nil || at.Port() == 0 || at.Addr().Zone() != "" || at.Addr().IsMulticast():
		return errWants
	case at.Addr().IsUnspecified():
		return errors.New("it stands for all addresses of the host, and whoever reaches one of them could ask")
	}
	s.DNS.Listen = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	return nil
}

// checkDNS checks what more than one setting says about DNS.
func (s *Settings) checkDNS() error {
	for zone, servers := range s.DNS.Zones {
		if zone == s.DNS.Domain || strings.HasSuffix(zone, "."+s.DNS.Domain) {
			return fmt.Errorf("WEFT_DNS_ZONES: the zone %s is in WEFT_DOMAIN=%s, whose names only the cluster has", zone, s.DNS.Domain)
		}
		if slices.Contains(servers, s.DNS.Listen) {
			return fmt.Errorf("WEFT_DNS_ZONES: the server of the zone %s is the agent itself, at WEFT_DNS_LISTEN=%s", zone, s.DNS.Listen)
		}
	}
	if p := s.DNS.Listen.Port(); p != 0 && (p == s.Port || p == s.VXLANPort) {
		return fmt.Errorf("WEFT_DNS_LISTEN=%s: the agent uses port %d already, want another one", s.DNS.Listen, p)
	}
	return nil
}
