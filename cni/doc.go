// Package cni is Weft as a CNI plugin: the same networks, addresses and mesh for containers of Mesos' own
// containerizer, containerd, podman, Nomad and Kubernetes' runtimes. It carries out one call and ends:
// the agent, behind its socket, makes and keeps the endpoint, and this package moves the endpoint's
// interface into the container. Specification: https://www.cni.dev/docs/spec/ (1.1.0).
package cni
