// Package gossip lets hosts find each other and know each other's facts. It is
// the only room that imports memberlist.
//
// memberlist tells who is there and who died. Facts do not ride on its
// broadcasts, which carry some twenty small events a second through a large
// cluster: a host sends what changed straight to every other host, in datagrams,
// two milliseconds later; receivers notice gaps and pull; every second a host
// tells three others how far it is, and every five seconds, and with each of
// memberlist's own exchanges, it shows one of them a digest of everything. What
// the ledger decided travels the same way: its leader sends, every host serves.
//
// Callbacks from memberlist run under its locks. They do nothing but put what
// they were told into a mailbox.
package gossip
