package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Loss is what became of a numbered stream of packets and its echoes.
type Loss struct {
	Sent     int `json:"sent"`
	Received int `json:"received"`
	// Lost never came back within the patience after the last was sent.
	Lost int `json:"lost"`
	// LostRun is the longest run of neighbouring lost packets.
	LostRun int `json:"longest_lost_run"`
	// FirstLost are the numbers of up to 20 lost packets, the first sent is 1.
	FirstLost  []int `json:"first_lost,omitempty"`
	Duplicates int   `json:"duplicates"`
	// GapMillis is the longest time between two echoes that followed each other.
	GapMillis float64 `json:"longest_gap_ms"`
	// SendErrors are packets that the kernel refused to send; they count as lost.
	SendErrors int   `json:"send_errors"`
	Times      Times `json:"round_trip"`
	// Losses are the runs of neighbouring lost packets, by when they were sent, and Silences the times
	// of a quarter of a second and more between two echoes: of each the first maxHoles.
	Losses   []Hole `json:"losses,omitempty"`
	Silences []Hole `json:"silences,omitempty"`
}

// Hole is a time in which a stream was interrupted.
type Hole struct {
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Packets int       `json:"packets,omitempty"` // that were lost
}

const (
	maxHoles = 5000
	silence  = 250 * time.Millisecond
)

// maxStream bounds a stream's memory: eight hours of a packet every 3 ms.
const maxStream = 10_000_000

// patience is how long a stream waits for echoes after its last packet.
const patience = time.Second

// trace of a stream: when each packet left and when it came back, from its beginning.
type trace struct {
	began  time.Time
	mu     sync.Mutex
	sent   []time.Duration
	back   []time.Duration // 0 is not yet
	arrive []time.Duration // of all first echoes, in order
	dups   int
	errs   int
	ended  bool
}

// MeasureLoss sends a numbered UDP packet of size bytes (8 or more) to a server every so
// often, until ctx ends or last is over (0 is until ctx ends), and counts the echoes.
func MeasureLoss(ctx context.Context, addr string, every, last time.Duration, size int) (Loss, error) {
	if last > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, last)
		defer cancel()
	}
	return exchange(ctx, addr, every, maxStream, size)
}

// exchange sends up to count packets, fewer if ctx ends, and waits for their echoes.
func exchange(ctx context.Context, addr string, every time.Duration, count, size int) (Loss, error) {
	if every <= 0 || size < 8 {
		return Loss{}, fmt.Errorf("probe: a packet of %d bytes every %v; it needs 8 bytes or more and a time above 0", size, every)
	}
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return Loss{}, fmt.Errorf("probe: %w", err)
	}
	hold(conn)
	seen := trace{began: time.Now()}
	var reader sync.WaitGroup
	reader.Go(func() { seen.collect(conn) })
	seen.send(ctx, conn, every, count, size)
	conn.SetReadDeadline(time.Now().Add(patience)) //nolint:errcheck // closing below ends the reader too
	waited := time.AfterFunc(2*patience, func() { conn.Close() })
	reader.Wait()
	waited.Stop()
	conn.Close()
	return seen.loss(), nil
}

func (t *trace) send(ctx context.Context, conn net.Conn, every time.Duration, count, size int) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	packet := make([]byte, size)
	for n := range uint64(count) {
		binary.BigEndian.PutUint64(packet, n)
		t.mu.Lock()
		t.sent = append(t.sent, time.Since(t.began))
		t.back = append(t.back, 0)
		t.mu.Unlock()
		if _, err := conn.Write(packet); err != nil {
			t.mu.Lock()
			t.errs++
			t.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// collect reads echoes until the connection's deadline or its end. An ICMP error, which
// the kernel reports on reading, is not an end.
func (t *trace) collect(conn net.Conn) {
	packet := make([]byte, 64<<10)
	for {
		n, err := conn.Read(packet)
		var timeout net.Error
		if errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) && timeout.Timeout() {
			return
		}
		if err == nil && n >= 8 {
			t.note(binary.BigEndian.Uint64(packet), time.Since(t.began))
		}
	}
}

func (t *trace) note(n uint64, at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case n >= uint64(len(t.sent)):
	case t.back[n] != 0:
		t.dups++
	default:
		t.back[n] = max(at, 1)
		t.arrive = append(t.arrive, at)
	}
}

// loss is the outcome of what was noted.
func (t *trace) loss() Loss {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Loss{Sent: len(t.sent), Received: len(t.arrive), Duplicates: t.dups, SendErrors: t.errs}
	var samples []time.Duration
	run := 0
	for i, back := range t.back {
		if back != 0 {
			run = 0
			samples = append(samples, back-t.sent[i])
			continue
		}
		run++
		out.Lost++
		out.LostRun = max(out.LostRun, run)
		if len(out.FirstLost) < 20 {
			out.FirstLost = append(out.FirstLost, i+1)
		}
	}
	out.Times = Summarize(samples)
	for i := 1; i < len(t.arrive); i++ {
		out.GapMillis = max(out.GapMillis, micros(t.arrive[i]-t.arrive[i-1])/1e3)
	}
	out.Losses, out.Silences = t.holes()
	return out
}

// holes are the runs of lost packets and the long times between echoes.
func (t *trace) holes() (losses, silences []Hole) {
	for i, back := range t.back {
		switch {
		case back != 0 || len(losses) == maxHoles:
		case i > 0 && t.back[i-1] == 0:
			last := &losses[len(losses)-1]
			last.Until, last.Packets = t.began.Add(t.sent[i]), last.Packets+1
		default:
			losses = append(losses, Hole{t.began.Add(t.sent[i]), t.began.Add(t.sent[i]), 1})
		}
	}
	for i := 1; i < len(t.arrive) && len(silences) < maxHoles; i++ {
		if t.arrive[i]-t.arrive[i-1] >= silence {
			silences = append(silences, Hole{Since: t.began.Add(t.arrive[i-1]), Until: t.began.Add(t.arrive[i])})
		}
	}
	return losses, silences
}
