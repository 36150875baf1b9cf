package cli

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/weftnet/weft/turn"
)

// memoryLimit, in bytes, is where the garbage collector begins to work harder. It is
// several times what an agent of a large cluster uses, and an agent may exceed it.
const memoryLimit = 512 << 20

// garbagePercent is how much garbage there may be, in percent of what is in use. Most of what an
// agent has stays: the facts of the cluster. Go's 100 would double them, for nothing.
const garbagePercent = 40

// limitMemory sets memoryLimit and garbagePercent unless the environment sets others.
func limitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// trimEvery is how often memory is given back that nothing uses any more.
const trimEvery = time.Minute

// trimNowAndThen gives back to the system what a burst of work has left, such as the first facts
// of a large cluster: an agent that then idles collects no garbage for minutes, and Go keeps what
// it has had in use.
func trimNowAndThen(ctx context.Context) {
	for turn.Sleep(ctx, trimEvery) {
		trim()
	}
}

// trim does so if it is a quarter of what is in use and more. It takes one collection.
func trim() (given bool) {
	sizes := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(sizes)
	if free, live := sizes[0].Value.Uint64(), sizes[1].Value.Uint64(); free < live/4 {
		return false
	}
	debug.FreeOSMemory()
	return true
}
