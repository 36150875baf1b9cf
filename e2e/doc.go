// Package e2e has the tests of the whole product on real parts: hosts of a lab
// (namespaces of this machine), each with its own Docker Engine and with the
// managed plugin as a user creates and enables it.
//
// One lab serves all tests of a run: hosts 1 to 3 are one cluster, hosts 4 to 6
// are spares on which a test installs what it needs. Tests that take hosts,
// agents or links down run first and one at a time; the others run side by side,
// each on networks of its own. Where no lab can be, without root or Docker, they
// are skipped with the reason; WEFT_LAB_REQUIRED makes that a failure.
//
// The examples are run here too, so that they share the lab.
package e2e
