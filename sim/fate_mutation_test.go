package sim_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
)

// TestFatesNoticeBrokenRules: a host that does not heed what the rules say of its
// identity hands out an address, and that is noticed.
func TestFatesNoticeBrokenRules(t *testing.T) {
	tooLongForRace(t)
	for name, c := range map[string]struct {
		mutation
		fate string
	}{
		"a removal is not heeded":        {mutation{rooms: deaf}, "removed while it is cut off"},
		"an expired lease is not heeded": {mutation{clocks: frozen}, "suspended beyond its lease"},
		"an older disk is trusted":       {mutation{rooms: trusting}, "an older disk is restored"},
	} {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(fates, func(f fate) bool { return f.name == c.fate })
			w := simulateFates(t, 1, c.mutation, fates[i])
			if !slices.ContainsFunc(w.faults, func(f string) bool { return strings.HasPrefix(f, "(4)") }) {
				t.Errorf("nobody noticed %s; found was %q", name, w.faults)
			}
		})
	}
}

// deaf rooms do not tell the agent that its host was removed.
func deaf(*host) plugin.Rooms {
	return plugin.Rooms{
		Ledger: func(cfg ledger.Config) (plugin.Ledger, error) {
			l, err := ledger.Open(cfg)
			return deafLedger{l}, err
		},
		Gossip: func(cfg gossip.Config) (plugin.Gossip, error) {
			g, err := gossip.Start(cfg)
			return deafGossip{g, cfg.Host}, err
		},
	}
}

type deafLedger struct{ plugin.Ledger }

func (l deafLedger) Do(ctx context.Context, c ledger.Command) (ledger.Reply, error) {
	r, err := l.Ledger.Do(ctx, c)
	return r, unheard(err)
}

func (l deafLedger) Admit(ctx context.Context) (ledger.Reply, error) {
	r, err := l.Ledger.Admit(ctx)
	return r, unheard(err)
}

func unheard(err error) error {
	if errors.Is(err, &netmap.Refusal{Kind: netmap.Removed}) {
		return netmap.Refuse(netmap.NoQuorum, "somebody said something")
	}
	return err
}

type deafGossip struct {
	*gossip.Gossip
	self netmap.HostID
}

func (g deafGossip) View() *netmap.View {
	v := *g.Gossip.View()
	v.Hosts = slices.DeleteFunc(slices.Clone(v.Hosts), func(h netmap.HostView) bool { return h.ID == g.self && h.Entry.Removed })
	return &v
}

// frozen clocks never let a lease end.
func frozen(h *host) func() (ledger.Moment, error) {
	return func() (ledger.Moment, error) {
		return ledger.Moment{Boot: h.booted.String(), Up: time.Hour, Wall: h.booted}, nil
	}
}

// trusting rooms let every start pass for the newest.
func trusting(*host) plugin.Rooms {
	return plugin.Rooms{Ledger: func(cfg ledger.Config) (plugin.Ledger, error) {
		cfg.Start, cfg.Lineage = uint64(time.Now().Unix()), nil
		l, err := ledger.Open(cfg)
		return l, err
	}}
}
