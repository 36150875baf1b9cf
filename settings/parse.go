package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weftnet/weft/secret"
)

const (
	wantsPort = "a port number 1-65535"
	wantsPath = "an absolute path without . or .. in it"

	wantsPathOrNone = "empty or " + wantsPath
)

// errWants is the whole error of a parser that has nothing to add to the
// setting's Wants.
var errWants = errors.New("not of the wanted form")

var (
	nameForm      = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	interfaceForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,15}$`) // IFNAMSIZ less the NUL
	numeric       = regexp.MustCompile(`^[0-9.]+$`)
)

// parseSecret checks what is not in a file, which may come later than the setting.
func parseSecret(s *Settings, v string) error {
	if file, is := strings.CutPrefix(v, secret.File); is {
		if !filepath.IsAbs(file) {
			return errWants
		}
	} else if _, _, err := secret.Parse(v); err != nil {
		return err
	}
	s.Secret = v
	return nil
}

func number(least, most int, set func(*Settings, int)) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return errWants
		}
		set(s, n)
		return nil
	}
}

func parseExpect(s *Settings, v string) error {
	if v == "agents" {
		s.Expect = ExpectAgents
		return nil
	}
	return number(0, 1000, func(s *Settings, n int) { s.Expect = n })(s, v)
}

func port(set func(*Settings, uint16)) func(*Settings, string) error {
	return number(1, 65535, func(s *Settings, n int) { set(s, uint16(n)) })
}

func oneOf(set func(*Settings, string), allowed ...string) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		if !slices.Contains(allowed, v) {
			return errWants
		}
		set(s, v)
		return nil
	}
}

func path(set func(*Settings, string)) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		if !filepath.IsAbs(v) || filepath.Clean(v) != v {
			return errWants
		}
		set(s, v)
		return nil
	}
}

func pathOrNone(set func(*Settings, string)) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		if v == "" {
			set(s, v)
			return nil
		}
		return path(set)(s, v)
	}
}

func parseName(s *Settings, v string) error {
	if v != "" && !nameForm.MatchString(v) {
		return errWants
	}
	s.Name = v
	return nil
}

func boolean(set func(*Settings, bool)) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return errWants
		}
		set(s, b)
		return nil
	}
}

// domainForm is a name of labels as RFC 1123 has them for hosts.
var domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// parseDomain bounds the length so that there is space for the names in the domain.
func parseDomain(s *Settings, v string) error {
	v = strings.ToLower(strings.TrimSuffix(v, "."))
	if !domainForm.MatchString(v) || len(v) > 120 {
		return errWants
	}
	s.DNS.Domain = v
	return nil
}

func parseTTL(s *Settings, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d > time.Hour || d != d.Truncate(time.Second) {
		return errWants
	}
	s.DNS.TTL = d
	return nil
}

// parseMTU takes nothing below 1280, the least that IPv6 works on (RFC 8200 §5),
// and nothing that leaves no room for 50 bytes of VXLAN in an IP packet.
func parseMTU(s *Settings, v string) error {
	if v == "0" {
		s.MTU = 0
		return nil
	}
	return number(1280, 65535-50, func(s *Settings, n int) { s.MTU = n })(s, v)
}

func parseRemoveAfter(s *Settings, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return errWants
	}
	s.RemoveAfter = d
	return nil
}

// parseStatus accepts only a loopback address, as every client of it can read everything
// about the cluster.
func parseStatus(s *Settings, v string) error {
	s.Status = netip.AddrPort{}
	if v == "" {
		return nil
	}
	at, err := netip.ParseAddrPort(v)
	switch {
	case err != nil || at.Port() == 0 || at.Addr().Zone() != "":
		return errWants
	case !at.Addr().Unmap().IsLoopback():
		return fmt.Errorf("other hosts could reach %s and read everything about the cluster: there is no password; put a proxy that asks for one in front", at.Addr())
	}
	s.Status = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	return nil
}

// parseAdvertise tells addresses, prefixes and interfaces apart. A name made of
// digits and dots is taken for a mistyped address.
func parseAdvertise(s *Settings, v string) error {
	s.Advertise = Advertise{}
	if v == "" {
		return nil
	}
	if p, err := netip.ParsePrefix(v); err == nil {
		s.Advertise.Within = p.Masked()
		return nil
	}
	if a, err := netip.ParseAddr(v); err == nil {
		if a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			return errors.New("not an address that other hosts can send to")
		}
		s.Advertise.Addr = a.Unmap()
		return nil
	}
	if !interfaceForm.MatchString(v) || numeric.MatchString(v) || v == ".." {
		return errWants
	}
	s.Advertise.Interface = v
	return nil
}

func parseRanges(s *Settings, v string) error {
	s.Ranges = nil
	for word := range strings.SplitSeq(v, ",") {
		p, err := parseRange(strings.TrimSpace(word))
		if err != nil {
			return err
		}
		for _, other := range s.Ranges {
			if other.Overlaps(p) {
				return fmt.Errorf("%s and %s overlap", other, p)
			}
		}
		s.Ranges = append(s.Ranges, p)
	}
	return nil
}

func parseRange(word string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(word)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a prefix", word)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s has bits set behind its length, perhaps %s is meant", p, p.Masked())
	}
	least, most := 8, 24
	if p.Addr().Is6() {
		least, most = 16, 64
	}
	if p.Bits() < least || p.Bits() > most {
		return netip.Prefix{}, fmt.Errorf("%s is too large or too small", p)
	}
	if a := p.Addr(); a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%s is not unicast address space", p)
	}
	return p, nil
}
