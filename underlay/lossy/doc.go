// Package lossy is a network in memory for simulations: it implements
// underlay.Network for any number of hosts, loses, delays, doubles and reorders
// datagrams, cuts links in one or both directions, and lets hosts crash or lose
// power. Time is the caller's: in a testing/synctest bubble it is virtual.
//
// Chance is drawn from one source per direction of each link, seeded from the
// network's seed, so that what happens on one link does not depend on how
// goroutines of others are scheduled. On one link the schedule of the sender
// decides; a run is therefore repeatable as far as the senders are.
//
// Streams behave as TCP does, not as pipes do. Across a cut they hang: writes
// fill a buffer and then wait; what was written arrives after the cut heals; a
// cut longer than BreakAfter breaks them. A dial across a cut hangs until its
// context ends. A host that crashed answers with resets, one without power with
// nothing at all until it is back, and then with resets.
package lossy
