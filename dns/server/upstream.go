package server

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// upstream answers queries that are not about our names.
type upstream interface {
	// exchange sends a query as it was received and returns the reply as it comes.
	exchange(ctx context.Context, q query) (reply []byte, err error)
}

// replies is memory for the largest reply. Sockets share it, as most wait for one.
var replies = sync.Pool{New: func() any { return new([mdns.MaxMsgSize]byte) }}

// exchangeUDP asks over a connected socket.
func exchangeUDP(c *net.UDPConn, q query, until time.Time) ([]byte, error) {
	if err := c.SetDeadline(until); err != nil {
		return nil, err
	}
	if _, err := c.Write(q.bytes); err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	for {
		packet, err := receive(raw)
		if err != nil || q.replies(packet) {
			return packet, err
		}
	}
}

// receive waits for a packet.
func receive(raw syscall.RawConn) (packet []byte, err error) {
	waited := raw.Read(func(fd uintptr) (done bool) {
		buffer := replies.Get().(*[mdns.MaxMsgSize]byte) //nolint:errcheck // the pool has nothing else
		defer replies.Put(buffer)
		var n int
		n, _, err = unix.Recvfrom(int(fd), buffer[:], 0)
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		packet = bytes.Clone(buffer[:max(n, 0)])
		return true
	})
	return packet, errors.Join(waited, os.NewSyscallError("recvfrom", err))
}

// exchangeTCP asks over a connection, which it closes.
func exchangeTCP(ctx context.Context, c net.Conn, q query, until time.Time) ([]byte, error) {
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	defer func() { _ = c.Close() }() // has been read
	if err := writeTCP(c, until, q.bytes); err != nil {
		return nil, err
	}
	reply, err := readTCP(c, until, mdns.MaxMsgSize)
	if err == nil && !q.replies(reply) {
		err = errOtherReply
	}
	return reply, err
}
