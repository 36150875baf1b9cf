package sim_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/datapath"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/store"
)

// mutations break one rule each, and say which invariant must be reported then.
var mutations = map[string]mutation{
	"the disk forgets addresses":                     {disk: forgetAddresses, noticed: "(3)"},
	"an address of nobody's is answered":             {handler: replacing("IpamDriver.RequestAddress", "10.40.0.", "10.40.1."), noticed: "(4)"},
	"an address in use is answered":                  {handler: alwaysTheFirst("IpamDriver.RequestAddress"), noticed: "(1)"},
	"a repeated call is answered in another way":     {handler: counting("NetworkDriver.Join", "wfc"), noticed: "(6)"},
	"the kernel never gets one of the tunnels":       {kernel: without(firstTunnel, firstTunnelOp), noticed: "(8)"},
	"the kernel keeps what is gone":                  {kernel: without(wholeTruth, wholeTruthOp), noticed: "(8)"},
	"a call takes longer than Docker's users do":     {handler: slow("NetworkDriver.Leave", 6*time.Second), noticed: "(10)"},
	"other hosts' endpoints come with the wrong MAC": {kernel: without(rightMAC, rightMACOp), noticed: "(8)"},
}

// TestSimNoticesBrokenRules breaks one rule at a time and expects its check to fail.
func TestSimNoticesBrokenRules(t *testing.T) {
	tooLongForRace(t)
	for name, m := range mutations {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 5; seed++ {
				w := simulate(t, seed, mutatedSpan, m)
				if w.noticed() {
					return
				}
				t.Logf("seed %d did not notice; it found %q", seed, w.faults[:min(5, len(w.faults))])
			}
			t.Errorf("nobody noticed %s", m.noticed)
		})
	}
}

func forgetAddresses(h *host, dir string) {
	s, err := store.Open(dir)
	if err != nil {
		h.w.t.Fatal(err)
	}
	defer s.Close()
	records, err := s.Bucket("ipam").Load()
	if err != nil {
		h.w.t.Fatal(err)
	}
	var gone []string
	for key := range records {
		if strings.HasPrefix(key, "addr/") {
			gone = append(gone, key)
		}
	}
	if err := s.Bucket("ipam").Commit(nil, gone...); err != nil {
		h.w.t.Fatal(err)
	}
}

// altered passes the answers of a method through change.
func altered(method string, change func(answer string) string) func(*host, http.Handler) http.Handler {
	return func(_ *host, agent http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/"+method {
				agent.ServeHTTP(w, r)
				return
			}
			recorder := httptest.NewRecorder()
			agent.ServeHTTP(recorder, r)
			w.WriteHeader(recorder.Code)
			_, _ = w.Write([]byte(change(recorder.Body.String()))) // a recorder takes all
		})
	}
}

func replacing(method, old, now string) func(*host, http.Handler) http.Handler {
	return altered(method, func(answer string) string { return strings.Replace(answer, old, now, 1) })
}

// alwaysTheFirst answers every call as the first one that succeeded, which is for a
// container.
func alwaysTheFirst(method string) func(*host, http.Handler) http.Handler {
	var first atomic.Pointer[string]
	return altered(method, func(answer string) string {
		if strings.Contains(answer, `"Err"`) || !strings.Contains(answer, "10.40.0.") || strings.Contains(answer, "10.40.0.1/") {
			return answer
		}
		first.CompareAndSwap(nil, &answer)
		return *first.Load()
	})
}

func counting(method, after string) func(*host, http.Handler) http.Handler {
	var n atomic.Int64
	return altered(method, func(answer string) string {
		return strings.Replace(answer, after, after+strings.Repeat("x", int(n.Add(1)%2)), 1)
	})
}

func slow(method string, by time.Duration) func(*host, http.Handler) http.Handler {
	return altered(method, func(answer string) string { time.Sleep(by); return answer })
}

// changedKernel is a kernel that gets another state than the agent computed.
type changedKernel struct {
	*plugintest.Kernel
	change   func(*datapath.State)
	changeOp func(*datapath.Op) (kept bool)
}

func (k changedKernel) Set(ctx context.Context, s datapath.State) (int, error) {
	k.change(&s)
	return k.Kernel.Set(ctx, s)
}

func (k changedKernel) Apply(ctx context.Context, ops []datapath.Op) error {
	ops = slices.Clone(ops)
	for i := range ops {
		if !k.changeOp(&ops[i]) {
			ops[i] = datapath.Op{Verb: datapath.Delete, Object: datapath.AStray}
		}
	}
	return k.Kernel.Apply(ctx, ops)
}

func without(change func(*datapath.State), changeOp func(*datapath.Op) bool) func(*host) plugin.Kernel {
	return func(h *host) plugin.Kernel { return changedKernel{h.kernel, change, changeOp} }
}

func firstTunnelOp(op *datapath.Op) bool { return op.Object != datapath.ATunnel }

func wholeTruthOp(op *datapath.Op) bool { return op.Verb == datapath.Add }

func rightMACOp(op *datapath.Op) bool {
	if op.Object == datapath.ANeighbour {
		op.MAC[5] ^= 1
	}
	return true
}

func firstTunnel(s *datapath.State) {
	for i := range s.Networks {
		if n := &s.Networks[i]; len(n.FDB) > 0 {
			n.FDB = n.FDB[1:]
		}
	}
}

func wholeTruth(s *datapath.State) { s.Keep = true }

func rightMAC(s *datapath.State) {
	for i := range s.Networks {
		for j := range s.Networks[i].Neighbours {
			s.Networks[i].Neighbours[j].MAC[5] ^= 1
		}
	}
}
