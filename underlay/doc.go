// Package underlay connects a host to the other hosts: one port number, TCP and UDP,
// which gossip, ledger and host-to-host requests share.
//
// Streams begin with a four-byte preface that names their kind. A stream that begins
// otherwise is closed before any other package sees a byte of it. All datagrams belong
// to gossip. Requests are one framed question and one framed answer on a stream of
// their own, with the caller's deadline inside.
//
// The package uses the kernel through Network. System is the real one; package lossy
// has one in memory that loses and delays packets and cuts links.
package underlay
