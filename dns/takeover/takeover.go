// Package takeover makes a container ask another DNS server than Docker's, without a change to
// the container. Docker's resolver is at 127.0.0.11:53 in the container's network namespace;
// nftables rules there rewrite the port of packets to it, so that they reach a server on
// another port of 127.0.0.11, and the port of that server's answers. The rules are in force for
// Lifetime and have to be refreshed, so that Docker's resolver answers again by itself after
// the agent has ended.
//
// Packets are rewritten one by one and not tracked. With DNAT, conntrack would keep sending
// the packets of a socket that a client keeps open to a server that is gone.
package takeover

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/netns"
)

const (
	// Mark is SO_MARK of the sockets whose packets go to Docker's resolver all the same.
	Mark = 0x77656674
	// Lifetime is how long Install and Refresh are good for.
	Lifetime = 15 * time.Second
)

// ErrReplaced says that the rules of Install are gone or changed: by another program in the
// namespace, or by another agent, or because they were not refreshed in time. Install puts
// them there again.
var ErrReplaced = errors.New("the rules that lead DNS queries to the agent are gone or changed")

// Takeover is one that is in force in one namespace. Its socket holds the namespace until
// Close. Its methods must not be called at the same time.
type Takeover struct {
	kernel     *kernel
	refresh    *batch
	installed  []byte // our rules as the kernel had them behind Install
	generation uint32 // of all rules of the namespace when ours were seen to be as installed
}

// Install takes 127.0.0.11:53 over, UDP and TCP, for servers at two ports of 127.0.0.11 in a
// namespace. It replaces what an earlier agent left there, in one transaction. The caller may
// close ns afterwards.
func Install(ns *netns.Namespace, udp, tcp uint16) (*Takeover, error) {
	return install(ns, udp, tcp, Lifetime)
}

func install(ns *netns.Namespace, udp, tcp uint16, lifetime time.Duration) (t *Takeover, err error) {
	err = ns.Do(func() error {
		if err := flush(newRuleset(udp, tcp, lifetime).add); err != nil {
			return fmt.Errorf("needs CAP_NET_ADMIN and a kernel with nf_tables: %w", err)
		}
		t, err = newTakeover(udp, tcp, lifetime)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("add the nftables rules for DNS in a container: %w", err)
	}
	return t, nil
}

// newTakeover opens the socket in the calling thread's namespace.
func newTakeover(udp, tcp uint16, lifetime time.Duration) (*Takeover, error) {
	k, err := dialKernel()
	if err != nil {
		return nil, err
	}
	t := &Takeover{kernel: k, refresh: newBatch(udp, tcp, lifetime)}
	if t.generation, err = k.generation(); err == nil {
		t.installed, err = k.rules()
	}
	if err != nil {
		return nil, errors.Join(err, k.close())
	}
	return t, nil
}

// flush does something in one transaction, in the calling thread's namespace.
func flush(do func(*nftables.Conn) error) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Flush(), conn.CloseLasting())
}

// Refresh prolongs the takeover to Lifetime from now. The error wraps ErrReplaced where there
// is nothing to prolong. After any error, the caller closes the Takeover and installs again.
func (t *Takeover) Refresh() error {
	err := t.kernel.send(t.refresh, t.generation)
	if errors.Is(err, unix.ERESTART) { // somebody has changed some rule of the namespace
		if err := t.verify(); err != nil {
			return err
		}
		err = t.kernel.send(t.refresh, t.generation)
	}
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ERESTART):
		return fmt.Errorf("%w: %w", ErrReplaced, err)
	case err != nil:
		return fmt.Errorf("refresh the nftables rules for DNS in a container: %w", err)
	}
	t.generation++
	return nil
}

// verify compares our rules with those of Install.
func (t *Takeover) verify() error {
	generation, err := t.kernel.generation()
	if err != nil {
		return fmt.Errorf("read the generation of nftables rules in a container: %w", err)
	}
	now, err := t.kernel.rules()
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("read the nftables rules for DNS in a container: %w", err)
	}
	if !bytes.Equal(now, t.installed) {
		return ErrReplaced
	}
	t.generation = generation
	return nil
}

// Close gives 127.0.0.11:53 back to Docker at once, unless another agent has taken it over
// meanwhile, and lets the namespace go. Nothing is wrong with a namespace whose container has
// ended. A second Close does nothing.
func (t *Takeover) Close() error {
	if t.kernel.fd < 0 {
		return nil
	}
	err := t.verify()
	if err == nil {
		err = t.kernel.deleteTable()
	}
	if errors.Is(err, ErrReplaced) || errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return errors.Join(err, t.kernel.close())
}

// Leave lets the namespace go and leaves the rules in force for what is left of Lifetime, for a
// server that comes soon.
func (t *Takeover) Leave() error {
	if t.kernel.fd < 0 {
		return nil
	}
	return t.kernel.close()
}

// Remove removes what an agent left in a namespace. It reports whether there was anything.
func Remove(ns *netns.Namespace) (was bool, err error) { return visit(ns, (*kernel).deleteTable) }

// Exists reports whether there is anything that Remove would remove.
func Exists(ns *netns.Namespace) (bool, error) {
	return visit(ns, func(k *kernel) error {
		rules, err := k.rules()
		if err == nil && len(rules) == 0 {
			err = unix.ENOENT
		}
		return err
	})
}

// visit does something with our table in a namespace, and reports whether there is one.
func visit(ns *netns.Namespace, do func(*kernel) error) (was bool, err error) {
	err = ns.Do(func() error {
		k, err := dialKernel()
		if err != nil {
			return err
		}
		return errors.Join(do(k), k.close())
	})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the nftables table %s in a container: %w", tableName, err)
	}
	return true, nil
}
