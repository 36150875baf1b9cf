// Package ipam hands out addresses to Docker from what the ledger gave to this
// host.
//
// Pool is the pure core: one subnet's blocks, claims and uses, which address is
// next and which are free. IPAM is the thin edge around it: Docker's IPAM protocol,
// the disk, and the ledger's decisions.
//
// Invariants (DESIGN §9): an address is answered only after its use is on disk (3);
// only addresses of own blocks and own claims are handed out (4); every create can
// be repeated and every release of the unknown succeeds (6).
package ipam
