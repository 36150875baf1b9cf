// Package probe measures a network between two of its programs: throughput and round-trip
// times over TCP, round trips over UDP to many at once, and a numbered stream of packets
// that tells which were lost and how long the longest silence was.
//
// One server answers all of it on one port number, TCP and UDP. Results are values with
// JSON names; durations are in microseconds unless the name says otherwise.
package probe
