// Package attach keeps the networks and endpoints of this host for all who make some:
// Docker, and others that do without Docker. It decides with the ledger which network of
// the cluster is meant, plugs and unplugs ports, announces endpoints, and remembers all
// that on disk, because nobody repeats it after a restart.
//
// Each network and endpoint has an owner (netmap.Owner), and an owner reaches only its
// Part: what Docker does not know is not forgotten with what Docker has forgotten.
//
// Every create is idempotent and every delete of the unknown succeeds (invariant 6):
// Docker repeats calls that it gave up on, and forgets others. It sends no delete after
// a create that failed and ignores the errors of deletes, so what is left over then is
// marked as deleted, and FinishDeletions finishes it.
package attach
