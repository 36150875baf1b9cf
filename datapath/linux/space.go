package linux

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/netns"
)

// space is a network namespace that is used without entering it: sockets stay in the namespace
// in which they were opened.
type space struct {
	ns *netns.Namespace
	*netlink.Handle
	batch *nl.SocketHandle // for messages that the library cannot write
}

func openPath(path string) (*space, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	return openSpace(ns)
}

// openSpace opens sockets in a namespace, and owns it from then on.
func openSpace(ns *netns.Namespace) (*space, error) {
	s := &space{ns: ns}
	err := ns.Do(s.connect)
	if err == nil {
		err = s.limits()
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// connect opens the sockets in the namespace of the calling thread.
func (s *space) connect() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	s.Handle = h
	sock, err := nl.GetNetlinkSocketAt(-1, -1, unix.NETLINK_ROUTE) // here, without entering one
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	s.batch = &nl.SocketHandle{Socket: sock}
	return nil
}

// limits gives every wait a deadline and the sockets buffers for dumps of thousands of entries.
func (s *space) limits() error {
	if err := s.SetSocketTimeout(timeout); err != nil {
		return err
	}
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	if err := s.batch.Socket.SetSendTimeout(&tv); err != nil {
		return err
	}
	if err := s.batch.Socket.SetReceiveTimeout(&tv); err != nil {
		return err
	}
	return s.batch.Socket.SetReceiveBufferSize(1<<20, true)
}

func (s *space) close() error {
	if s.Handle != nil {
		s.Close()
	}
	if s.batch != nil {
		s.batch.Close()
	}
	return s.ns.Close()
}

// again opens the same namespace with other sockets.
func (s *space) again() (*space, error) {
	ns, err := s.ns.Again()
	if err != nil {
		return nil, err
	}
	return openSpace(ns)
}
