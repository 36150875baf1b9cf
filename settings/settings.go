package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/weftnet/weft/discover"
)

// Settings has the settings of one agent, checked and in the types that the packages use.
// It does not change after Load.
type Settings struct {
	Join        []string       // entries of discover, the port filled in where one is; empty = found a cluster
	Expect      int            // hosts that found together, or ExpectAgents; 0 = found alone or join
	Ranges      []netip.Prefix // never empty, masked, not overlapping
	Advertise   Advertise      // zero = source address of the default route
	Port        uint16         // tcp and udp
	VXLANPort   uint16         // udp, differs from Port
	Secret      string         // never logged
	Name        string         // display name; empty = hostname
	Replicate   bool
	MemberOf    MemberOf
	MTU         int // bytes, for containers; 0 = from the underlay
	DNS         DNS
	Consul      string // http:// or https://, host and port; empty: containers are not registered
	Overlays    Overlays
	RemoveAfter time.Duration  // 0 = never by itself
	Status      netip.AddrPort // loopback, tcp; the zero value = off
	State       string         // absolute path on the host, see HostPath
	LogLevel    string         // debug, info, warn or error
	LogFormat   string         // text or json
	Root        string         // where the host's root directory is seen; empty = /
}

// Overlays says what is made of a DC/OS master's overlays.
type Overlays struct {
	File   string // absolute path on the host; empty: there are none
	CNIDir string // absolute path on the host; empty: no CNI configuration is written
	Admin  bool   // hosts can be removed over HTTP
}

// ExpectAgents as Expect is as many hosts as the Mesos masters in Join list.
const ExpectAgents = -1

// DNS says how containers are found by their names.
type DNS struct {
	On          bool          // containers find those of all hosts by name
	Domain      string        // of all names, without dots at its ends
	TTL         time.Duration // of answers, whole seconds
	PreferLocal bool          // addresses of the same host first
	Health      bool          // containers whose health check fails are left out
	Marathon    bool          // containers are found by MARATHON_APP_ID
	// Zones has the servers of each zone, which is in lower case without a dot at its end; never
	// empty.
	Zones  map[string][]netip.AddrPort
	Listen netip.AddrPort // udp and tcp, for the host's own queries; the zero value = off
}

// Advertise says which of the host's addresses the other hosts shall use. At
// most one field is set.
type Advertise struct {
	Addr      netip.Addr   // this address
	Within    netip.Prefix // the host's address inside this prefix
	Interface string       // the first global address of this device
}

// String is the form that WEFT_ADVERTISE takes.
func (a Advertise) String() string {
	switch {
	case a.Addr.IsValid():
		return a.Addr.String()
	case a.Within.IsValid():
		return a.Within.String()
	default:
		return a.Interface
	}
}

// HostPath is where this process sees the host's absolute path p: below
// WEFT_ROOT inside the managed plugin, p itself elsewhere.
func (s Settings) HostPath(p string) string {
	return filepath.Join("/", s.Root, p)
}

// finish fills what depends on more than one setting and checks that they agree.
func (s *Settings) finish() error {
	for i, word := range s.Join {
		peer, err := discover.Parse(word, s.Port)
		if err != nil {
			return err // it was read before
		}
		s.Join[i] = peer.String()
		if s.Expect == ExpectAgents && !peer.ListsAgents() {
			return fmt.Errorf("WEFT_EXPECT=agents with %s in WEFT_JOIN, want only mesos+http://MASTER:5050: as many hosts are expected as the master lists", word)
		}
	}
	if s.Port == s.VXLANPort {
		return fmt.Errorf("WEFT_PORT=%d and WEFT_VXLAN_PORT=%d: both use udp, want two different ports", s.Port, s.VXLANPort)
	}
	if s.Port == s.Status.Port() {
		return fmt.Errorf("WEFT_PORT=%d and WEFT_STATUS=%s: both use tcp, want two different ports", s.Port, s.Status)
	}
	if err := s.checkDNS(); err != nil {
		return err
	}
	if s.Expect == ExpectAgents && len(s.Join) == 0 {
		return errors.New("WEFT_EXPECT=agents without WEFT_JOIN: as many hosts are expected as a Mesos master lists, want mesos+http://MASTER:5050 in WEFT_JOIN")
	}
	if s.Expect > 1 && len(s.Join) == 0 {
		return fmt.Errorf("WEFT_EXPECT=%d without WEFT_JOIN: hosts that found together have to find each other, want the same list of them on all", s.Expect)
	}
	return nil
}
