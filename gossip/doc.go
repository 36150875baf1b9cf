// Package gossip lets hosts find each other and know each other's facts. It is the only
// package that imports memberlist.
//
// memberlist tells who is there and who died. Facts do not use its broadcasts, which
// carry some twenty small events a second through a large cluster. Instead
//
//   - a host sends what changed to every other host, in datagrams, at once;
//   - receivers notice gaps, and pull what they miss, many logs with one request when many
//     are missing;
//   - for ten seconds after a log changed, a host tells three others every second how far
//     its copy is;
//   - every five seconds, and with each of memberlist's own exchanges, it sends one of
//     them a digest of everything.
//
// Decisions of the ledger travel the same way: its leader sends them, every host serves
// them.
//
// Callbacks from memberlist run under its locks. They only put what they were told into
// an eventQueue.
package gossip
