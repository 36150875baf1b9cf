// Package store keeps what must survive a restart, in a state directory that is locked
// by the one agent that uses it. A commit is written to a journal and synced, once for
// all that come together, before anything is answered; when the journal is full, a
// checkpoint moves it into one bbolt file. It also holds the host's identity, which is made once and
// proves at every start that it continues the newest one (DESIGN §3).
package store
