// Package vm runs machines with a kernel and a Debian of their own, under qemu's software
// emulation: what a namespace cannot show, a reboot, a loss of power, another kernel, systemd.
//
// scripts/machine-disk.sh makes the disk, once. Each machine writes to an overlay of it. Machines
// have a network card each; two that name each other's socket are on one wire. Commands go through
// virtio ports, so they work whatever becomes of the machine's network. Nothing listens on the
// machine that runs all this.
package vm
