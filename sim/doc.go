// Package sim simulates whole clusters: complete agents (everything but netlink
// and Docker) with the real raft, memberlist and store, on a network in memory
// that loses and cuts, in virtual time. Its tests run a random schedule of
// container life and of faults per seed and check the invariants of DESIGN §9 all
// along and after everything healed; further ones break a rule on purpose and
// show that the checks notice.
//
// TestFates does the same for what happens to hosts' identities: removal while a host is away, off or
// running, and its return; leaving; machines that sleep; older disks; copies; the loss of most keepers, and
// a ledger that is recovered from what is left.
//
// Each runs the seeds of testdata/seeds, which once found a fault, a few fixed ones and fresh ones for
// a short while. SEEDS=n runs n, WEFT_SIM_TIME as many as fit into a time, such as 10m. A run is not exactly
// repeatable, as the scheduling of goroutines is not, so it tells its story: a seed that fails prints what
// led to the first fault and leaves the whole in a file, and WEFT_SEED runs one seed and tells it as it happens.
package sim
