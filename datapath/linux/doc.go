// Package linux carries out what datapath wants, by netlink. It is the only package of the
// agent that talks netlink; netns opens and pins the namespaces for it.
//
// All bridges and VXLAN devices live in one network namespace, the overlay namespace, where the
// host's firewall, sysctls and network managers do not affect them. It is pinned in the host's
// mount namespace and outlives the agent: a restarted agent finds it and changes only what
// differs. VXLAN devices are created from the host's namespace, so their UDP sockets stay
// there. One end of a container's veth pair is a port of the bridge. The other waits in the
// host's namespace until Docker moves it.
//
// Nothing is learned: forwarding tables and ARP answers (proxy_arp_wifi on all ports; without
// multicast neigh_suppress on the VXLAN port, which answers ND too) are static. Frames to MACs that
// no endpoint has are flooded. A bridge has one address, a link-local one that is the same on all
// hosts, to ask for the members of IPv6 groups. Netlink attributes are sufficient for that.
// Sysctls only improve on it, and it is no error if they cannot be set.
package linux
