package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// switchboard is an underlay on which only handlers are set.
type switchboard map[string]func(context.Context, netip.AddrPort, []byte) ([]byte, error)

func (s switchboard) Handle(name string, h func(context.Context, netip.AddrPort, []byte) ([]byte, error)) {
	s[name] = h
}

func (switchboard) Stream(byte) net.Listener { return nil }

func (switchboard) Dial(context.Context, byte, netip.AddrPort) (net.Conn, error) {
	return nil, errors.New("nobody is there")
}

func (switchboard) Call(context.Context, netip.AddrPort, string, []byte) ([]byte, error) {
	return nil, errors.New("nobody is there")
}

// FuzzRequests: whatever another host asks of one that keeps nothing is answered with
// something that can be read, or refused.
func FuzzRequests(f *testing.F) {
	asked := switchboard{}
	l, err := Open(Config{Self: hostID(1), Start: 1, Dir: f.TempDir() + "/none", Underlay: asked})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = l.Close() })
	names := slices.Sorted(slices.Values([]string{requestDo, requestJoin, requestReplicaStatus, requestDismiss, requestReport, requestConsent, requestHistory, requestVacate, requestStart}))
	if len(names) != len(asked) {
		f.Fatalf("%d requests are served, %d are tried", len(asked), len(names))
	}
	for i := range names {
		for _, body := range []any{
			state.Command{Kind: state.KindRenew, Host: hostID(2), Start: 1},
			invitation{Host: hostID(1), Cluster: clusterID, Leader: hostID(2), Generation: 3},
			consentAsk{Generation: 1 << 33, By: hostID(2)},
			state.Query{Host: hostID(2), Limit: 3},
		} {
			b, err := state.Encode(body)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), b)
		}
		self := hostID(1)
		f.Add(uint8(i), self[:])
		f.Add(uint8(i), []byte(nil))
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		name := names[int(which)%len(names)]
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nobody waits for anything
		answer, err := asked[name](ctx, netip.AddrPort{}, body)
		var refusal *netmap.Refusal
		switch {
		case err == nil && len(answer) > 0 && !json.Valid(answer):
			t.Errorf("%s %q: answered %q", name, body, answer)
		case errors.As(err, &refusal) && (refusal.Kind == "" || refusal.Text == ""):
			t.Errorf("%s %q: refused with %#v", name, body, refusal)
		}
	})
}
