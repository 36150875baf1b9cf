// Package secret makes keys of the secrets that the hosts of a cluster share: a certificate for each host, by which
// streams are TLS 1.3 with both ends known to have one of the secrets, and sealed datagrams.
//
// Each secret stands for an authority, whose key all that have the secret derive, and forget when the host's
// certificate is signed. A host may have several secrets while they are exchanged. Two hosts understand each other
// if they have one in common, in whatever order each has them.
//
// A secret admits. It does not tell hosts apart: whoever has it can be any host. The host's own key, which its
// certificate is for, is made at its first start and stays.
package secret
