// Package attach keeps this host's networks and endpoints for all their owners: Docker, and
// callers that use Weft without Docker. It asks the ledger which network of the cluster a
// network of this host is, makes and removes ports in the kernel, announces endpoints to the
// other hosts, and keeps a record of all that on disk, because no owner repeats its calls
// after a restart of the agent.
//
// Each network and endpoint has an owner (netmap.Owner). An owner reads and changes only its
// own ones, through a Part, so a comparison with what Docker has removes nothing of another
// owner's.
//
// A create that is repeated changes nothing, and deleting what is unknown succeeds
// (invariant 6), because Docker repeats some of the calls that timed out and never repeats
// others. It sends no delete after a create that failed, and it ignores the errors of
// deletes. What such calls leave behind is marked as deleted, and FinishDeletions removes it.
package attach
