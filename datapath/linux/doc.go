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
// Nothing is learned and no bridge has an address: forwarding tables and ARP and ND answers
// (neigh_suppress on the VXLAN port) are static. Netlink attributes are sufficient for that.
// Sysctls only improve on it, and it is no error if they cannot be set.
package linux
