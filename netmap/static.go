package netmap

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// Bounds of the names that are added by hand.
const (
	MaxStaticName  = 120  // bytes of a name: it is in a key
	MaxStaticNames = 1000 // on one network
)

// StaticName is the ledger's record of a name on a network that was added by hand, for what runs
// outside of containers. A name with several addresses has a record for each.
type StaticName struct {
	Network NetworkID  `json:"network"`
	Name    string     `json:"name"` // lower case, without the network and the domain
	Addr    netip.Addr `json:"addr"`
}

// Compare orders by network, name and address.
func (s StaticName) Compare(other StaticName) int {
	return cmp.Or(cmp.Compare(s.Network, other.Network), strings.Compare(s.Name, other.Name), s.Addr.Compare(other.Addr))
}

// Check refuses a name or an address that no answer can have.
func (s StaticName) Check() *Refusal {
	switch problem := NameProblem(s.Name); {
	case problem != "":
		return Refuse(BadInput, "%.140q is no name in DNS: %s", s.Name, problem)
	case len(s.Name) > MaxStaticName:
		return Refuse(BadInput, "%q is longer than the %d bytes that a name added by hand may have", s.Name, MaxStaticName)
	case s.Name != strings.ToLower(s.Name):
		return Refuse(BadInput, "%q is not in lower case", s.Name)
	case !s.Addr.IsValid(), s.Addr != s.Addr.Unmap().WithZone(""), s.Addr.IsUnspecified(), s.Addr.IsLoopback(), s.Addr.IsMulticast():
		return Refuse(BadInput, "%s is no address that containers can reach; want one such as 192.0.2.7 or 2001:db8::7", s.Addr)
	}
	return nil
}

// MaxNameInDNS is how many bytes a name may have in DNS as text, without a dot at its end.
const MaxNameInDNS = 253

// NameProblem says why a name is none that DNS can carry; it is empty for one that is.
func NameProblem(name string) string {
	if len(name) > MaxNameInDNS {
		return fmt.Sprintf("it has more than %d bytes", MaxNameInDNS)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return "it has an empty label"
		}
		if len(label) > 63 {
			return "it has a label of more than 63 bytes"
		}
		for i := range len(label) {
			if c := label[i]; !isLetterOrDigit(c) && c != '-' && c != '_' {
				return fmt.Sprintf("%q is no byte of a name", c)
			}
		}
	}
	return ""
}

func isLetterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z'
}
