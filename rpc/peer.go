package rpc

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of the socket: dockerd. Its pid changes
// with every dockerd start, so it is read for each connection.
type Peer struct {
	PID int32 // 0 if it is outside of our pid namespace
	UID uint32
	// Instance identifies a process among all others, also across reboots: its pid, its
	// start time and the kernel's boot id. Empty if unknown.
	Instance string
}

type peerKey struct{}

// WithPeer puts a peer into a context, as the server does for each connection.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerOf returns the process that a call came from, if it came over a unix socket.
func PeerOf(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

// peerOf asks the kernel who connected (SO_PEERCRED, unix(7)).
func peerOf(c net.Conn) (Peer, bool) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, false
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Peer{}, false
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return Peer{}, false
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, Instance: instance(cred.Pid)}, true
}

// instance reads a process's start time (proc_pid_stat(5), field 22).
func instance(pid int32) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field, the name in parentheses, may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d@%s@%s", pid, fields[19], bytes.TrimSpace(boot))
}
