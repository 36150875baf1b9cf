// Package store keeps what must survive a restart: one bbolt file in the state
// directory, locked by the one agent that uses it, written and synced before
// anything is answered. It also holds the host's identity, which is made once and
// proves at every start that it continues the newest one (DESIGN §3).
package store
