package linux

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/turn"
)

// DefaultPin is where the overlay namespace is pinned, in the host's mount
// namespace.
const DefaultPin = "/run/weft/netns/overlay"

// timeout bounds every wait for an answer of the kernel.
const timeout = 5 * time.Second

// Config says how to reach the host. The zero Config is right for an agent that runs as a
// process of the host.
type Config struct {
	// HostNS is a path of the host's network namespace; empty = the caller's.
	HostNS string
	// Pin is the path of the pin in the host's mount namespace; empty =
	// DefaultPin. It must be on a file system that a reboot empties.
	Pin string
	// PinView is the path of the pin in the agent's own mount namespace, such as
	// /host/run/weft/netns/overlay; empty = Pin.
	PinView string
	// HostPID returns a process whose mount namespace is the host's, such as dockerd, or 0 for
	// the agent's own. It returns an error while none is known; then only a namespace that is
	// visible at PinView can be used. Nil means 0. It is called with the Kernel locked and must
	// not call it.
	HostPID func() (int, error)
	// ProcSys is a writable /proc/sys; empty = /proc/sys. Its entries are those
	// of the thread's network namespace, wherever it is mounted from.
	ProcSys string
	// Did is told of each operation that was carried out; nil: nobody is. It must not call the
	// Kernel.
	Did func(datapath.Op)
}

// Kernel is the overlay of one host. Safe for concurrent use. Plug and Unplug wait for a Set
// for a few milliseconds at most.
type Kernel struct {
	cfg     Config
	setting turn.Turn // serialises Set and Read, guards the use of reader; taken before turn
	turn    turn.Turn // guards everything below, and the kernel's tables
	host    *space
	overlay *space // nil until found or made
	reader  *space // the same, for reads during which Plug need not wait
	notes   []string
	asking  atomic.Pointer[netns.Namespace] // the overlay's, for WhoHas; not guarded
	ports   ports

	guard     *guard // nil until it is needed
	unguarded bool   // the kernel has no such tables
	filled    bool   // the guard was told a whole state
	lostGuard bool   // it has to be filled again
}

// Open connects to the host's network namespace, and to the overlay namespace if it exists.
// Otherwise the first Set or Plug makes that. Open changes nothing.
func Open(cfg Config) (*Kernel, error) {
	cfg = cfg.withDefaults()
	host, err := openPath(cfg.HostNS)
	if err != nil {
		return nil, fmt.Errorf("linux: the host's network namespace: %w", err)
	}
	k := &Kernel{cfg: cfg, setting: turn.New(), turn: turn.New(), host: host, ports: newPorts()}
	if err := k.find(); err != nil && !errors.Is(err, netns.ErrNotExist) {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (c Config) withDefaults() Config {
	if c.HostNS == "" {
		c.HostNS = "/proc/thread-self/ns/net"
	}
	if c.Pin == "" {
		c.Pin = DefaultPin
	}
	if c.PinView == "" {
		c.PinView = c.Pin
	}
	if c.HostPID == nil {
		c.HostPID = func() (int, error) { return 0, nil }
	}
	if c.ProcSys == "" {
		c.ProcSys = "/proc/sys"
	}
	return c
}

// Close closes the namespaces. The overlay keeps working.
func (k *Kernel) Close() error {
	defer k.setting.Wait()()
	defer k.turn.Wait()()
	return errors.Join(k.host.close(), k.release())
}

func (k *Kernel) release() (err error) {
	if k.overlay != nil {
		k.asking.Store(nil)
		err = errors.Join(k.forgetGuard(), k.overlay.close(), k.reader.close())
		k.overlay, k.reader = nil, nil
	}
	return err
}

// Report says what a Set did.
type Report struct {
	Done   int       // how many operations were carried out
	Failed []Failure // not carried out; all others were tried
	// Missing are wanted endpoints without a port because the container's end of the veth pair
	// is gone. Only Plug can make a new pair.
	Missing []netmap.EndpointID
	// Notes are things that the host does not allow and that are not required, such as writing
	// a read-only sysctl.
	Notes []string
}

// Failure is an operation that the kernel refused.
type Failure struct {
	Op  datapath.Op
	Err error
}

// Error implements error.
func (f Failure) Error() string { return fmt.Sprintf("%s: %v", f.Op, f.Err) }

// Unwrap returns the kernel's answer.
func (f Failure) Unwrap() error { return f.Err }

// enter waits for a turn until ctx ends.
func enter(ctx context.Context, t turn.Turn) (leave func(), err error) {
	if leave, err = t.WaitWithin(ctx); err != nil {
		return nil, fmt.Errorf("linux: waiting for another change of the overlay: %w", context.Cause(ctx))
	}
	return leave, nil
}
