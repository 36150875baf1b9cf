// Package attack is a stranger on the network of a cluster: it knows what one exchange
// of gossip tells, and sends what no agent sends. Tests of the lab run it inside a
// namespace of the lab's, against agents of the lab's.
package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// Target is an agent as a stranger sees it.
type Target struct {
	Addr    netip.AddrPort
	Host    netmap.HostID
	Cluster netmap.ClusterID
	Others  []netmap.HostID // of its cluster
	From    netip.AddrPort  // where the stranger is
	// Dial opens a connection from the stranger's place.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Attack is one thing that a stranger does.
type Attack struct {
	Name string
	// Run sends everything and keeps what it has opened until ctx ends. An error means
	// that the attack did not take place, not that it was repelled.
	Run func(ctx context.Context, t Target) error
}

// errNoReach means that nothing was sent.
var errNoReach = errors.New("attack: the target is not reached")

// datagrams sends each of them once, a little slower than a burst, so that the kernel's
// buffers hold them.
func (t Target) datagrams(ctx context.Context, all [][]byte) error {
	conn, err := t.Dial(ctx, "udp", t.Addr.String())
	if err != nil {
		return fmt.Errorf("%w: %w", errNoReach, err)
	}
	defer conn.Close()
	for i, b := range all {
		if _, err := conn.Write(b); err != nil {
			return fmt.Errorf("%w: %w", errNoReach, err)
		}
		if i%20 == 19 && !turn.Sleep(ctx, time.Millisecond) {
			return nil
		}
	}
	<-ctx.Done()
	return nil
}

// dialAtOnce bounds the connections that are being opened.
const dialAtOnce = 16

// streams opens n streams, says something on each and keeps them until ctx ends.
func (t Target) streams(ctx context.Context, n int, say ...[]byte) error {
	var mu sync.Mutex
	var open int
	var failed error
	var all sync.WaitGroup
	slots := make(chan struct{}, dialAtOnce)
	for range n {
		slots <- struct{}{}
		all.Go(func() {
			conn, err := t.Dial(ctx, "tcp", t.Addr.String())
			mu.Lock()
			if err == nil {
				open++
			} else {
				failed = err
			}
			mu.Unlock()
			<-slots
			if err == nil {
				hold(ctx, conn, say)
			}
		})
	}
	all.Wait()
	if open == 0 {
		return fmt.Errorf("%w: %w", errNoReach, failed)
	}
	return nil
}

// hold says something and then nothing. The other end may hang up at any time.
func hold(ctx context.Context, conn net.Conn, say [][]byte) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	for _, b := range say {
		if _, err := conn.Write(b); err != nil {
			break
		}
	}
	for err := error(nil); err == nil; {
		_, err = conn.Read(make([]byte, 4096))
	}
	<-ctx.Done()
}
