package cli

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/weftnet/weft/turn"
)

// garbagePercent is how much garbage there may be, in percent of what is in use. Most of what an
// agent has stays: the facts of the cluster. Go's 100 would double them, for nothing.
const garbagePercent = 25

// leastLimit, in bytes, is what an agent of any cluster may use before the garbage collector works
// harder and gives unused memory back at once.
const leastLimit = 72 << 20

// mostLimit is several times what an agent of a large cluster uses. An agent may exceed it.
const mostLimit = 512 << 20

// trimEvery is how often memory is given back that nothing uses any more.
const trimEvery = time.Minute

const leastTrim = 4 << 20

// limitMemory sets garbagePercent and leastLimit, and follows what is in use until ctx ends. It
// leaves alone what the environment sets.
func limitMemory(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	follow := os.Getenv("GOMEMLIMIT") == ""
	if follow {
		debug.SetMemoryLimit(leastLimit)
	}
	go func() {
		for last := time.Now(); turn.Sleep(ctx, time.Second); {
			if follow {
				debug.SetMemoryLimit(limitFor(sample(liveHeap)))
			}
			if time.Since(last) >= trimEvery {
				last = time.Now()
				trim()
			}
		}
	}()
}

// limitFor returns the limit where so many bytes are in use: above what garbagePercent leads to,
// so that a large cluster costs no more collections, and close enough that a burst of work, as
// the first facts of one, does not leave much behind.
func limitFor(live uint64) int64 {
	return min(mostLimit, max(leastLimit, int64(live)+int64(live)/4+8<<20))
}

const (
	liveHeap = "/gc/heap/live:bytes"
	freeHeap = "/memory/classes/heap/free:bytes"
)

func sample(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// trim gives back to the system what work has left, if it is leastTrim and an eighth of what is
// in use: an agent that idles collects no garbage for minutes, and Go keeps what it has had in use.
// It takes one collection.
func trim() (given bool) {
	if sample(freeHeap) < max(leastTrim, sample(liveHeap)/8) {
		return false
	}
	debug.FreeOSMemory()
	return true
}
