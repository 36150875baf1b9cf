// Package kernels tests Weft on machines with a kernel, a systemd and a Docker of their own, which
// are emulated (lab/vm): what the lab's namespaces cannot show. make test-kernels runs it.
package kernels
