package ledger

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

func TestHostsOfTwoReleasesDoNotFoundTogether(t *testing.T) {
	f := &Founding{writing: turn.New(), cfg: FoundingConfig{Self: hostID(2), Name: "b", Expect: 3, Cluster: func() netmap.ClusterID { return netmap.ClusterID{} }}}
	prepare := func(level int) (acceptor, error) {
		return f.answer(t.Context(), foundingAsk{To: hostID(2), From: elector{Name: "a"}, Expect: 3, Level: level}, func(a acceptor, _ foundingAsk) (acceptor, bool) { return a, false })
	}
	if _, err := prepare(state.Level); err != nil {
		t.Error(err)
	}
	for _, level := range []int{0, state.Level + 1} {
		if _, err := prepare(level); !errors.Is(err, &netmap.Refusal{Kind: netmap.Outdated}) || !strings.Contains(err.Error(), "install the same release") {
			t.Errorf("level %d: %v", level, err)
		}
	}
}

func TestGreetingsOfTwoReleases(t *testing.T) {
	before := greetingForms
	t.Cleanup(func() { greetingForms = before })
	own := greeting{from: hostID(1)}.encode(hostID(2))
	later := bytes.Clone(own)
	later[0]++
	if _, err := readGreeting(bytes.NewReader(later)); !errors.Is(err, errForm) {
		t.Errorf("a greeting of a later release: %v", err)
	}
	greetingForms.Newest++
	for _, b := range [][]byte{own, later} {
		if g, err := readGreeting(bytes.NewReader(b)); err != nil || g.from != hostID(1) {
			t.Errorf("% x is not read by the next release: %v", b, err)
		}
	}
}
