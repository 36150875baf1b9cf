// Package consul registers the ports of this host's containers as services of the host's Consul
// agent, with the containers' own addresses, and keeps them equal to what runs. service.go and
// plan.go decide what Consul should have, client.go speaks to it.
package consul
