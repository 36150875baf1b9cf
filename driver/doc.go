// Package driver answers Docker's network driver protocol: it reads the messages and has
// package attach carry them out, for Docker's part of this host's networks and endpoints.
package driver
