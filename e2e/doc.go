// Package e2e has the tests of the whole product on real parts: hosts of a lab
// (namespaces of this machine), each with its own Docker Engine and with the
// managed plugin as a user creates and enables it.
//
// One lab serves all tests of a run: hosts 1 to 3 are one cluster, hosts 4 to 9 are spares
// on which a test installs what it needs. Tests that take hosts, agents or links of the
// cluster down run first and one at a time; the others run in parallel, each on networks
// of its own. Without root or Docker, where there can be no lab, they are skipped with
// the reason; WEFT_LAB_REQUIRED makes that a failure.
//
// The examples are run here too, so that they share the lab.
package e2e
