// Package e2e has the tests of the whole product on real parts: hosts of a lab
// (namespaces of this machine), each with its own Docker Engine and with the
// managed plugin as a user creates and enables it.
//
// One lab serves all tests of a run: hosts 1 to 3 are one cluster, the members; nine others are
// spares on which a test installs what it needs; attacks come from the last one. Of the tests on the members, those that take
// hosts, agents or links down run first and one at a time (onMembersAlone); the rest shares
// them, each on networks of its own (onMembers). Tests on spares run beside both (onSpares).
// Five work at once; a storm or an attack counts for four. Without root or Docker, where there can be no lab, they are skipped with
// the reason; WEFT_LAB_REQUIRED makes that a failure.
//
// The examples are run here too, so that they share the lab.
package e2e
