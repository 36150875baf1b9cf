// Package driver answers Docker's network driver protocol. It parses the messages and calls
// package attach for the networks and endpoints that Docker owns on this host.
package driver
