// Package e2e has the tests of the whole product on real parts: hosts of a lab
// (namespaces of this machine), each with its own Docker Engine and with the
// managed plugin as a user creates and enables it.
//
// One lab serves all tests of a run: hosts 1 to 3, the members, are one cluster; the
// others are spares, lent by threes, on which a test installs what it needs. A test
// that takes members, their agents or their links down has them alone; the others use
// them side by side, each on networks of its own, and those on spares run beside all.
// All are parallel, and wait for hosts. Where no lab can be, without root or Docker, they
// are skipped with the reason; WEFT_LAB_REQUIRED makes that a failure.
//
// The examples are run here too, so that they share the lab.
package e2e
