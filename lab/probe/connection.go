package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// drainWithin is how long a connection waits for its last echoes: after an interruption TCP sends again only
// after about as long as that lasted.
const drainWithin = 2 * time.Minute

// MeasureConnection is MeasureLoss over one TCP connection, which it closes at the end. A connection that breaks is
// an error, with what it had carried.
func MeasureConnection(ctx context.Context, addr string, every, last time.Duration, size int) (Loss, error) {
	if every <= 0 || size < 8 {
		return Loss{}, fmt.Errorf("probe: a message of %d bytes every %v; it needs 8 bytes or more and a time above 0", size, every)
	}
	conn, err := dial(ctx, addr, modeEcho)
	if err != nil {
		return Loss{}, err
	}
	defer func() { _ = conn.Close() }() // what it carried has been read
	if last > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, last)
		defer cancel()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	seen := trace{began: time.Now()}
	var broken error
	var reader sync.WaitGroup
	reader.Go(func() {
		if broken = seen.collectMessages(conn, size); broken != nil {
			broken = fmt.Errorf("probe: the connection broke after %v: %w", time.Since(seen.began), broken)
			stop()
			_ = conn.Close() // ends a write that waits
		}
	})
	seen.send(ctx, conn, every, maxStream, size)
	seen.end()
	_ = conn.SetReadDeadline(time.Now().Add(drainWithin)) // a read reports it
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.CloseWrite() // a read reports it
	}
	reader.Wait()
	loss := seen.loss()
	if broken != nil {
		return loss, fmt.Errorf("%w; of %d messages %d came back", broken, loss.Sent, loss.Received)
	}
	return loss, nil
}

// collectMessages reads echoes until the server has sent all and closes.
func (t *trace) collectMessages(conn net.Conn, size int) error {
	message := make([]byte, size)
	for {
		_, err := io.ReadFull(conn, message)
		if errors.Is(err, io.EOF) {
			return t.complete()
		}
		if err != nil {
			return err
		}
		t.note(binary.BigEndian.Uint64(message), time.Since(t.began))
	}
}

// end notes that nothing more is sent.
func (t *trace) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

// complete is nil when everything was sent and came back.
func (t *trace) complete() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended || len(t.arrive) < len(t.sent) {
		return fmt.Errorf("the server closed it: %w", io.ErrUnexpectedEOF)
	}
	return nil
}
