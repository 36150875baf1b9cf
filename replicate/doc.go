// Package replicate has every network of the cluster in the Docker of this host, beside the
// plugin protocol: it makes replicas of those of other hosts, removes what was removed
// elsewhere, learns the names of containers, and forgets what Docker deleted while no agent
// answered.
package replicate
