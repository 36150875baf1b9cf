package takeover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// kernel is a socket to nftables in one namespace. What is done every few seconds for each
// container goes through it as bytes that are made once, with two system calls: with the
// library's connection it takes four times the processor.
type kernel struct{ fd int }

// maxAnswer is the most that the kernel puts into one message of a dump (NLMSG_GOODSIZE).
const maxAnswer = 8 << 10

// dialKernel opens the socket in the calling thread's namespace.
func dialKernel() (*kernel, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a socket to nftables: %w", os.NewSyscallError("socket", err))
	}
	// The kernel answers within the call, unless it has no memory for the answer.
	wait := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, errors.Join(os.NewSyscallError("setsockopt", err), unix.Close(fd))
	}
	return &kernel{fd: fd}, nil
}

// close may be called again: the number may be another file's by then.
func (k *kernel) close() error {
	if k.fd < 0 {
		return nil
	}
	fd := k.fd
	k.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// ask sends a request and gives the answers to visit, until visit returns false or one is an
// error or the last. The buffer has space for any of the answers.
func (k *kernel) ask(request, buffer []byte, visit func(syscall.NetlinkMessage) (more bool)) error {
	if err := unix.Sendto(k.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	for {
		n, _, err := unix.Recvfrom(k.fd, buffer, 0)
		if errors.Is(err, unix.EINTR) { // by a signal of Go's
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			end, err := ends(m)
			if err != nil {
				k.drain(buffer)
			}
			if end {
				return err
			}
			if !visit(m) {
				return nil
			}
		}
	}
}

// drain reads what the kernel has said behind an error, such as that it received the rest.
func (k *kernel) drain(buffer []byte) {
	for {
		if _, _, err := unix.Recvfrom(k.fd, buffer, unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// ends reports whether a message is the last of an answer, and the error that it says.
func ends(m syscall.NetlinkMessage) (bool, error) {
	switch {
	case m.Header.Type == unix.NLMSG_DONE:
		return true, nil
	case m.Header.Type != unix.NLMSG_ERROR:
		return false, nil
	case len(m.Data) < 4:
		return true, errors.New("a netlink error without a number")
	}
	if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
		return true, unix.Errno(errno)
	}
	return true, nil // an acknowledgement
}

// generation is the number that the kernel increases with each change to nftables rules of
// the namespace.
func (k *kernel) generation() (generation uint32, err error) {
	err = k.ask(message(nftType(unix.NFT_MSG_GETGEN), 0, 0), make([]byte, maxAnswer), func(m syscall.NetlinkMessage) bool {
		for rest := m.Data[min(4, len(m.Data)):]; len(rest) >= 8; { // behind struct nfgenmsg
			size, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
			if kind == unix.NFTA_GEN_ID {
				generation = binary.BigEndian.Uint32(rest[4:])
			}
			rest = rest[min(max(align(size), 4), len(rest)):]
		}
		return false
	})
	if err == nil && generation == 0 {
		err = errors.New("the kernel's answer has no generation of nftables rules")
	}
	return generation, err
}

// rules are our rules as the kernel has them, each with its handle, as bytes to be compared.
func (k *kernel) rules() (rules []byte, err error) {
	request := message(nftType(unix.NFT_MSG_GETRULE), unix.NLM_F_DUMP, 0,
		attr(unix.NFTA_RULE_TABLE, text(tableName)), attr(unix.NFTA_RULE_CHAIN, text(chainName)))
	err = k.ask(request, make([]byte, maxAnswer), func(m syscall.NetlinkMessage) bool {
		rules = append(rules, m.Data[min(4, len(m.Data)):]...) // behind struct nfgenmsg, which has the generation
		return true
	})
	return rules, err
}

// send sends a transaction, which the kernel refuses with ERESTART if the generation is
// another by then.
func (k *kernel) send(b *batch, generation uint32) error {
	binary.BigEndian.PutUint32(b.bytes[b.generation:], generation)
	return k.ask(b.bytes, make([]byte, 1024), func(syscall.NetlinkMessage) bool { return true })
}

func (k *kernel) deleteTable() error {
	b := newTransaction(message(nftType(unix.NFT_MSG_DELTABLE), unix.NLM_F_ACK, 0, attr(unix.NFTA_TABLE_NAME, text(tableName))))
	return k.send(b, 0) // whatever the generation
}

// batch is a transaction as bytes.
type batch struct {
	bytes      []byte
	generation int // where it stands in them
}

// newTransaction needs NLM_F_ACK in the last message alone, so that there is one answer.
func newTransaction(messages ...[]byte) *batch {
	begin := message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.NFNL_SUBSYS_NFTABLES, attr(unix.NFNL_BATCH_GENID, make([]byte, 4)))
	b := &batch{bytes: begin, generation: len(begin) - 4}
	for _, m := range append(messages, message(unix.NFNL_MSG_BATCH_END, 0, unix.NFNL_SUBSYS_NFTABLES)) {
		b.bytes = append(b.bytes, m...)
	}
	return b
}

// newBatch deletes the map's elements and adds equal ones, which live for another lifetime, so
// that no query falls in between. Kernels before 6.12 accept an element that exists, but do
// not prolong it.
func newBatch(udp, tcp uint16, lifetime time.Duration) *batch {
	milliseconds := attr(unix.NFTA_SET_ELEM_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(lifetime.Milliseconds())))
	elements := func(parts func(key, port []byte) []byte) []byte {
		value := func(kind uint16, b []byte) []byte { return nested(kind, attr(unix.NFTA_DATA_VALUE, b)) }
		element := func(protocol byte, number uint16) []byte {
			return nested(unix.NFTA_LIST_ELEM, parts(value(unix.NFTA_SET_ELEM_KEY, []byte{protocol}), value(unix.NFTA_SET_ELEM_DATA, port(number))))
		}
		return nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, element(unix.IPPROTO_UDP, udp), element(unix.IPPROTO_TCP, tcp))
	}
	table, set := attr(unix.NFTA_SET_ELEM_LIST_TABLE, text(tableName)), attr(unix.NFTA_SET_ELEM_LIST_SET, text(mapName))
	return newTransaction(
		message(nftType(unix.NFT_MSG_DELSETELEM), 0, 0, table, set, elements(func(key, _ []byte) []byte { return key })),
		message(nftType(unix.NFT_MSG_NEWSETELEM), unix.NLM_F_CREATE|unix.NLM_F_ACK, 0, table, set,
			elements(func(key, port []byte) []byte { return join(key, port, milliseconds) })),
	)
}
