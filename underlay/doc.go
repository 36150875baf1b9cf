// Package underlay is a host's one door to the other hosts: one port number, TCP
// and UDP, shared by gossip, ledger and host-to-host requests.
//
// Streams begin with a four-byte preface that names their kind; whatever begins
// otherwise is refused before any room sees a byte of it. Datagrams all belong to
// gossip. Requests are one framed question and one framed answer on a stream of
// their own, with the caller's deadline inside.
//
// The room speaks to the kernel through Network: System is the real one, package
// lossy has one in memory that loses, delays and cuts.
package underlay
