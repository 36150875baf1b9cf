package api

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// holder finds out which program listens at an address. It looks through all processes
// only when another socket does than before.
type holder struct{ socket, name string }

// of names the program that listens at an address, as far as the kernel tells.
func (h *holder) of(addr netip.AddrPort) string {
	if socket := listening(addr); socket != h.socket || h.name == "" {
		h.socket, h.name = socket, processOf(socket)
	}
	return h.name
}

// listening is the inode of the socket that listens at a TCP address of this network
// namespace, or at all addresses with its port; empty: none was found.
func listening(addr netip.AddrPort) string {
	var at []string
	for _, a := range []netip.Addr{addr.Addr(), netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		at = append(at, kernelForm(netip.AddrPortFrom(a, addr.Port())))
	}
	for _, table := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue // a kernel without IPv6
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			const local, state, inode = 1, 3, 9
			if row := strings.Fields(lines.Text()); len(row) > inode && row[state] == "0A" && slices.Contains(at, row[local]) {
				_ = f.Close() // it was only read
				return row[inode]
			}
		}
		_ = f.Close() // it was only read
	}
	return ""
}

// kernelForm is how /proc/net/tcp writes an address on a little-endian machine: each 32
// bits in hexadecimal, the last byte first.
func kernelForm(a netip.AddrPort) string {
	b := a.Addr().AsSlice()
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	return fmt.Sprintf("%X:%04X", b, a.Port())
}

// processOf names the process that has a socket.
func processOf(inode string) string {
	const unknown = "another program"
	if inode == "" {
		return unknown
	}
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is right
	for _, file := range files {
		if target, err := os.Readlink(file); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		process := filepath.Dir(filepath.Dir(file))
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			return unknown // it has just ended
		}
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(process))
	}
	return unknown
}
