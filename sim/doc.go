// Package sim simulates whole clusters: complete agents (everything but netlink
// and Docker) with the real raft, memberlist and store, on a network in memory
// that loses and cuts, in virtual time. Its tests run a random schedule of
// container life and of faults per seed and check the invariants of DESIGN §9 all
// along and after everything healed; further ones break a rule on purpose and
// show that the checks notice.
//
// TestFates does the same for what happens to hosts' identities: removal while a host is away, off or
// running, and its return; machines that sleep; older disks; copies.
//
// A run is not exactly repeatable, as the scheduling of goroutines is not, so it
// logs its schedule. WEFT_SIM_SEED runs one seed, WEFT_SIM_TIME as many as fit
// into a time, such as 10m.
package sim
