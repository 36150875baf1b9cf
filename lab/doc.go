// Package lab makes several hosts out of one machine, each with a real Docker
// Engine, and takes them away again.
//
// A host is a set of namespaces (network, mount, UTS, IPC, PID, cgroup) held open by
// its own process 1. Inside, everything is where a Debian host has it: a private
// /run, /var/lib and /etc, containerd and dockerd on their default paths. The hosts
// are joined by a bridge in a namespace of its own, the switch, whose nftables rules
// cut and heal the links between them. Nothing is made in the machine's own network
// or mount namespace.
//
// To kill a host's process 1 is to cut its power: the kernel ends every process in it, its
// mounts and its interfaces. Its disk stays under the state directory until
// the lab goes down.
//
// The lab writes down what it starts before it lets it run, and ends only what is in
// that record, each process checked by its start time. It needs root.
package lab
