//go:build !nextlevel

package state

// releases are the first releases of each feature level.
var releases = [...]string{"0.1.0"}
