// Package linux carries out what datapath wants, by netlink. It is the only package of
// the agent that talks netlink; netns opens and pins the namespaces for it.
//
// All bridges and VXLAN devices live in one network namespace, the overlay
// namespace, out of reach of the host's firewall, sysctls and network managers.
// It is pinned in the host's mount namespace and outlives the agent; a restarted
// agent finds it again and changes only what differs. VXLAN devices are made from
// the host's namespace, so their UDP sockets stay there. Of a container's veth
// pair one end is a port of the bridge, the other waits in the host's namespace
// until Docker moves it.
//
// Nothing is learned and no address is put on a bridge: forwarding tables and ARP
// and ND answers (neigh_suppress on the VXLAN port) are static. Everything that
// this needs is a netlink attribute. Sysctls are only tried, for what is nicer
// with them.
package linux
