package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Throughput is what TCP streams carried in one direction.
type Throughput struct {
	Bytes         int64   `json:"bytes"`
	Seconds       float64 `json:"seconds"`
	BitsPerSecond float64 `json:"bits_per_second"`
}

// MeasureThroughput sends (or with reverse receives) as much as streams TCP connections
// carry in a time. The sending side counts what its kernel has taken, so a measurement of
// a second or more is needed for buffers not to matter.
func MeasureThroughput(ctx context.Context, addr string, streams int, reverse bool, last time.Duration) (Throughput, error) {
	mode := byte(modeSink)
	if reverse {
		mode = modeSource
	}
	conns := make([]net.Conn, 0, streams)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range streams {
		c, err := dial(ctx, addr, mode)
		if err != nil {
			return Throughput{}, err
		}
		conns = append(conns, c)
	}
	var total atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, streams)
	began := time.Now()
	for i, c := range conns {
		all.Go(func() { errs[i] = pump(c, reverse, began.Add(last), &total) })
	}
	all.Wait()
	took := time.Since(began).Seconds()
	t := Throughput{Bytes: total.Load(), Seconds: took, BitsPerSecond: float64(total.Load()) * 8 / took}
	return t, errors.Join(errs...)
}

// pump moves bytes until a time and adds them to total.
func pump(c net.Conn, reverse bool, until time.Time, total *atomic.Int64) error {
	if err := c.SetDeadline(until); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	buf := make([]byte, 128<<10)
	move := c.Write
	if reverse {
		move = c.Read
	}
	for {
		n, err := move(buf)
		total.Add(int64(n))
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("probe: after %d bytes: %w", total.Load(), err)
		}
	}
}

// MeasureRoundTrips sends count messages of size bytes over one TCP connection, each after
// the answer to the one before.
func MeasureRoundTrips(ctx context.Context, addr string, count, size int) (Times, error) {
	c, err := dial(ctx, addr, modeEcho)
	if err != nil {
		return Times{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	message := make([]byte, size)
	samples := make([]time.Duration, 0, count)
	for i := range count {
		began := time.Now()
		_, err := c.Write(message)
		if err == nil {
			_, err = io.ReadFull(c, message)
		}
		if err != nil {
			return Times{}, fmt.Errorf("probe: round trip %d of %d: %w", i+1, count, errors.Join(err, ctx.Err()))
		}
		samples = append(samples, time.Since(began))
	}
	return Summarize(samples), nil
}
