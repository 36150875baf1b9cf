// Package exact simulates clusters that a seed replays bit for bit. The agents are
// the product's own (package plugin with driver and ipam); what they stand on is
// the world's: a disk that loses what it did not sync, a ledger that is one linear
// log on ledger.State whose answers come late, twice or never, facts on netmap.Map
// that are lost and overtake each other, clocks that lie, and Docker.
//
// An agent that wants something of the world waits until the world, which is one
// goroutine in a synctest bubble, has it happen: one thing at a time, in an order
// drawn from the seed, and after each of them everybody runs until he waits again.
// So a run depends on nothing but the seed, and invariants are checked after every
// step.
//
// `make test` runs some fixed seeds and some that derive from the tree (WEFT_TREE, see
// scripts/tree.sh): each change meets others, and says the same however often it is run.
// WEFT_SEED runs one seed and prints its story; SEEDS=n of `make sim` as many new ones, and
// WEFT_SIM_TIME as many as fit in that time. What was met is printed, and left in the
// directory WEFT_TALLY, since go test shows nothing of what passes.
package exact
