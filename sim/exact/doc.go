// Package exact simulates clusters so that a seed gives exactly the same run each time. The agents
// are the product's own (package plugin with driver and ipam). Everything below them is simulated
// by one type, world: a disk that loses what it did not sync, a ledger that is one linear log on
// state.State whose answers come late, twice or never, facts on netmap.Map that are lost and
// reordered, clocks that are wrong, and Docker.
//
// The world is one goroutine in a synctest bubble. Whatever an agent asks of it waits until the
// world serves it: one request at a time, in an order drawn from the seed. After each of them the
// world waits until all goroutines are blocked again. So a run depends on nothing but the seed, and
// the invariants are checked after every step.
//
// `make test` runs some fixed seeds and some that derive from the tree (WEFT_TREE, see
// scripts/tree.sh): each change meets others, and says the same however often it is run.
// WEFT_SEED runs one seed and prints its story; SEEDS=n of `make sim` as many new ones, and
// WEFT_SIM_TIME as many as fit in that time. What was met is printed, and left in the
// directory WEFT_TALLY, since go test shows nothing of what passes.
package exact
