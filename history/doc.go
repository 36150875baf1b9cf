// Package history answers who had which address, and when: the endpoints of this host out
// of its own store, those of other hosts by asking them, and what the ledger decided.
package history
