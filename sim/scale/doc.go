// Package scale measures what clusters of 10 to 1,000 hosts cost: complete agents with the
// real raft, memberlist and store in virtual time, on a network in memory that counts bytes
// for each host, and one real process whose kernel is real, in a cluster of a thousand hosts
// that only the ledger and the facts know.
//
// `make scale` runs both, prints the curve and writes docs/scale.md with its picture.
// TestThirtyHosts is the part that `make test` runs: it fails when a count has doubled
// against testdata/thirty.json.
package scale
