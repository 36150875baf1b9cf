// Package state is the pure half of the ledger: a state machine that takes numbered commands
// and says what they decided. It knows no clock, no disk and no network; times come as values
// in commands; the same commands give the same answers on every host.
package state
