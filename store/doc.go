// Package store keeps what must survive a restart, in a state directory that is locked
// by the one agent that uses it. Commit writes to a journal and syncs it, once for all
// callers that come together, before it returns. When the journal is full, a checkpoint
// moves its content into one bbolt file. The package also keeps the host's identity, which
// is made once, and with which each start proves that it continues the newest one.
package store
