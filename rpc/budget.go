package rpc

import "context"

// Limits of bodies. A body of up to smallBody takes nothing from the budget: there are at
// most maxConns of them. Larger ones share largeUnits units.
const (
	maxBody    = 16 << 20 // a container may publish all 65535 ports
	smallBody  = 64 << 10
	largeUnit  = 256 << 10
	largeUnits = 4 * maxBody / largeUnit
)

// budget bounds the bytes of large bodies that are in memory at once. All methods are safe
// for concurrent use.
type budget struct {
	taken  chan struct{} // holds a token for each unit in use
	taking chan struct{} // holds a token while a caller takes units: two callers with a part each would wait for each other
}

func newBudget() budget {
	return budget{taken: make(chan struct{}, largeUnits), taking: make(chan struct{}, 1)}
}

// take waits until the units for this number of bytes, at most maxBody, are free, or ctx
// ends.
func (b budget) take(ctx context.Context, bytes int64) (giveBack func(), err error) {
	select {
	case b.taking <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-b.taking }()
	units := int64(0)
	giveBack = func() {
		for range units {
			<-b.taken
		}
	}
	for units*largeUnit < bytes {
		select {
		case b.taken <- struct{}{}:
			units++
		case <-ctx.Done():
			giveBack()
			return nil, ctx.Err()
		}
	}
	return giveBack, nil
}
