// Package ledger records every decision that must be unique in the cluster: who
// is a member, which subnets and networks exist, who owns which block.
//
// State is the pure half: a state machine that takes numbered commands and says
// what they decided. It knows no clock, no disk and no network; times come as
// values in commands; the same commands give the same answers on every host.
//
// Ledger is the edge: hashicorp/raft among up to five keepers, chosen among the
// members, and the way from any host to them.
package ledger
