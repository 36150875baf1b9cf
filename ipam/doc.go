// Package ipam hands out addresses from what the ledger gave to this host: Register,
// Allocate and Release (allocate.go) for every caller, under Docker's IPAM protocol.
//
// Package pool is the pure core: one subnet's blocks, claims and uses, which address is
// next and which are free. IPAM is the edge around it: the disk, the ledger's decisions,
// and Docker's IPAM protocol.
//
// Invariants (DESIGN §9): an address is answered only after its use is on disk (3);
// only addresses of own blocks and own claims are handed out (4); every create can
// be repeated and every release of the unknown succeeds (6).
package ipam
