package probe

import (
	"math"
	"slices"
	"time"
)

// Times sums up durations, in microseconds.
type Times struct {
	Count int     `json:"count"`
	Min   float64 `json:"min_us"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	Max   float64 `json:"max_us"`
}

// Summarize sorts samples and takes their nearest-rank percentiles: the least sample that
// at least that part of all does not exceed.
func Summarize(samples []time.Duration) Times {
	if len(samples) == 0 {
		return Times{}
	}
	slices.Sort(samples)
	rank := func(part float64) float64 {
		i := int(math.Ceil(part*float64(len(samples)))) - 1
		return micros(samples[max(0, i)])
	}
	return Times{Count: len(samples), Min: micros(samples[0]), P50: rank(0.50), P99: rank(0.99), Max: micros(samples[len(samples)-1])}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
