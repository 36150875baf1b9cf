package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Collect accepts connections on addr until so many names have been told or ctx ends, and returns when
// each of them arrived.
func Collect(ctx context.Context, addr string, names int) (map[string]time.Time, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })() // it ends Accept
	var mu sync.Mutex
	arrived := map[string]time.Time{}
	for {
		c, err := l.Accept()
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			return arrived, nil
		}
		at := time.Now()
		go func() {
			defer c.Close()
			_ = c.SetReadDeadline(at.Add(10 * time.Second)) // the read reports it
			name, err := bufio.NewReader(c).ReadString('\n')
			mu.Lock()
			defer mu.Unlock()
			if name = strings.TrimSpace(name); err == nil && arrived[name].IsZero() {
				arrived[name] = at
			}
			if len(arrived) == names {
				cancel()
			}
		}()
	}
}

// arriveWait is how long a try waits for its answer: a lost packet is noticed sooner than by TCP.
const arriveWait = 50 * time.Millisecond

// Arrive tells a name to a collector, as soon as it can be reached.
func Arrive(ctx context.Context, addr, name string) error {
	again := time.NewTicker(arriveWait / 10)
	defer again.Stop()
	for ctx.Err() == nil {
		c, err := (&net.Dialer{Timeout: arriveWait}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_, err = fmt.Fprintln(c, name)
			err = errors.Join(err, c.Close())
		}
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("probe: %s was not reached: %w", addr, ctx.Err())
}
