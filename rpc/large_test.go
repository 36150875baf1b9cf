package rpc_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/rpc"
)

// ports is the size of a request that publishes every port.
const ports = 15 << 20

var xs = bytes.Repeat([]byte("x"), 64<<10)

// letters are a body of which no copy is made here.
type letters struct{}

// Read implements io.Reader.
func (letters) Read(b []byte) (int, error) { return copy(b, xs), nil }

// holding is a server whose large calls stay until release is closed.
type holding struct {
	*rpc.Server
	post      func(method string, body io.Reader, length int64) (int, string)
	inside    chan struct{}
	release   chan struct{}
	now, most atomic.Int32
	ended     sync.WaitGroup
	answered  atomic.Int32
}

func hold(t *testing.T) *holding {
	h := &holding{inside: make(chan struct{}, 100), release: make(chan struct{})}
	h.Server, h.post = serveBodies(t, rpc.Config{Deadline: time.Minute, Routes: map[string]rpc.Handler{
		"Test.Hold": rpc.Ask(func(context.Context) (reply, error) { // the body is read, not decoded
			h.enter(h.now.Add(1))
			h.inside <- struct{}{}
			<-h.release
			h.now.Add(-1)
			return reply{"done"}, nil
		}),
		"Test.Greet": rpc.Call(func(context.Context, greeting) (reply, error) { return reply{"hello"}, nil }),
	}})
	return h
}

// enter remembers how many were there at once.
func (h *holding) enter(inside int32) {
	most := h.most.Load()
	for inside > most && !h.most.CompareAndSwap(most, inside) {
		most = h.most.Load()
	}
}

// send makes so many large calls at once.
func (h *holding) send(calls int) {
	for range calls {
		h.ended.Go(func() {
			if status, _ := h.post("Test.Hold", io.LimitReader(letters{}, ports), ports); status == 200 {
				h.answered.Add(1)
			}
		})
	}
}

// TestLargeBodiesWaitForEachOther: twelve containers that each publish every port are 180 MB
// of requests. A third of that is in memory at any time, all are answered, and no small
// request waits for them.
func TestLargeBodiesWaitForEachOther(t *testing.T) {
	const calls, most, room = 12, 4, 100 << 20
	before := heap()
	h := hold(t)
	h.send(calls)
	for range most {
		<-h.inside
	}
	for h.Counters().Calls < calls {
		runtime.Gosched()
	}
	if status, body := h.post("Test.Greet", strings.NewReader(`{}`), 2); status != 200 {
		t.Errorf("a small request meanwhile: %d %s", status, body)
	}
	if after := heap(); after > before+room {
		t.Errorf("the requests take %d MiB, want at most %d", (after-before)>>20, room>>20)
	}
	close(h.release)
	h.ended.Wait()
	if got := h.answered.Load(); got != calls {
		t.Errorf("%d of %d large requests were answered", got, calls)
	}
	if got := h.most.Load(); got > most {
		t.Errorf("%d large requests were in memory at once, want at most %d", got, most)
	}
}

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
