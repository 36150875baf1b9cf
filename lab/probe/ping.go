package probe

import (
	"context"
	"sync"
	"time"
)

// Reach is how one server answered.
type Reach struct {
	Target   string  `json:"target"`
	Sent     int     `json:"sent"`
	Received int     `json:"received"`
	P50      float64 `json:"p50_us"`
	Error    string  `json:"error,omitempty"`
}

// Ping sends count UDP packets to every server at once, one every 20 ms, and reports who
// answered: one row of a matrix of who reaches whom.
func Ping(ctx context.Context, targets []string, count int) []Reach {
	row := make([]Reach, len(targets))
	var all sync.WaitGroup
	for i, target := range targets {
		all.Go(func() {
			const every = 20 * time.Millisecond
			loss, err := exchange(ctx, target, every, count, 64)
			row[i] = Reach{Target: target, Sent: loss.Sent, Received: loss.Received, P50: loss.Times.P50}
			if err != nil {
				row[i].Error = err.Error()
			}
		})
	}
	all.Wait()
	return row
}
