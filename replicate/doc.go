// Package replicate keeps the networks of this host's Docker equal to those of the cluster. It
// makes replicas of networks of other hosts, removes what was removed elsewhere, learns the
// names of containers, and forgets what Docker deleted while no agent answered.
package replicate
