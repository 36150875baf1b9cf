// Package ledger records every decision that must be unique in the cluster: who
// is a member, which subnets and networks exist, who owns which block.
//
// What is decided, and how, is package state. Here is the edge around it: hashicorp/raft
// among up to five keepers, chosen among the members, and the way from any host to them.
package ledger
