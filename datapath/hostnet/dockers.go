package hostnet

import (
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// dockers reports whether Docker's rules for IPv4 are in place: those that it writes itself with
// nftables (29 and later), or those that iptables writes as nftables. What the older iptables
// keeps cannot be seen, and counts as in place.
func (h *Host) dockers() bool {
	if legacy, err := h.read("/proc/thread-self/net/ip_tables_names"); err == nil && slices.Contains(strings.Fields(legacy), "nat") {
		return true
	}
	c, err := nftables.New(nftables.WithNetNSFd(h.ns.Fd()))
	if err != nil {
		return false
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false
	}
	needed := []string{"DOCKER", "PREROUTING", "POSTROUTING"}
	for _, chain := range chains {
		switch {
		case chain.Table.Name == "docker-bridges":
			return true
		case chain.Table.Name != "nat":
		case chain.Name == "DOCKER":
			needed = slices.DeleteFunc(needed, func(n string) bool { return n == chain.Name })
		default:
			if rules, err := c.GetRules(chain.Table, chain); err == nil && len(rules) > 0 {
				needed = slices.DeleteFunc(needed, func(n string) bool { return n == chain.Name })
			}
		}
	}
	return len(needed) == 0
}

// read reads a file as it is in the namespace.
func (h *Host) read(path string) (text string, err error) {
	err = h.ns.Do(func() error {
		raw, err := os.ReadFile(path)
		text = string(raw)
		return err
	})
	return text, err
}
