// Package driver answers Docker's network driver protocol: it turns networks and
// endpoints of this host's Docker into decisions, facts and ports, and remembers
// them on disk, because Docker repeats none of them after a restart.
//
// Every create is idempotent and every delete of the unknown succeeds
// (invariant 6): Docker repeats calls that it gave up on, and forgets others. It
// sends no delete after a create that failed and ignores the errors of deletes, so
// what is left over then is marked as deleted, and Settle finishes it.
package driver
