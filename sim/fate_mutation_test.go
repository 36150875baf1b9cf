package sim_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/lease"
	"github.com/weftnet/weft/ledger"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/plugin"
)

// TestFatesNoticeBrokenRules: if one rule about a host's identity is broken, the host hands out an
// address, and the checks notice that.
func TestFatesNoticeBrokenRules(t *testing.T) {
	tooLongForRace(t)
	for name, c := range map[string]struct {
		mutation
		fate string
	}{
		"a removal is ignored":         {mutation{deps: deaf}, "removed while it is cut off"},
		"an expired lease is ignored":  {mutation{clocks: frozen}, "suspended beyond its lease"},
		"an older disk is trusted":     {mutation{deps: trusting}, "an older disk is restored"},
		"what is held is not declared": {mutation{deps: silent}, "most keepers are lost for good"},
	} {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(fates, func(f fate) bool { return f.name == c.fate })
			for seed := uint64(1); seed <= 10; seed++ {
				w := simulateFates(t, seed, c.mutation, fates[i])
				if slices.ContainsFunc(w.faults, func(f string) bool { return strings.HasPrefix(f, "(4)") || strings.HasPrefix(f, "(1)") }) {
					t.Logf("noticed by seed %d", seed)
					return
				}
				t.Logf("seed %d did not notice; it found %q", seed, w.faults)
			}
			t.Errorf("nobody noticed %s", name)
		})
	}
}

// deaf gossip and ledger do not tell the agent that its host was removed.
func deaf(*host) plugin.Deps {
	return plugin.Deps{
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

// silent hosts declare to a recovered ledger that they hold nothing.
func silent(*host) plugin.Deps {
	return plugin.Deps{Ledger: func(cfg ledger.Config) (plugin.Ledger, error) {
		l, err := ledger.Open(cfg)
		return silentLedger{l}, err
	}}
}

type silentLedger struct{ plugin.Ledger }

func (l silentLedger) Do(ctx context.Context, c state.Command) (state.Reply, error) {
	if c.Kind == state.KindDeclareHoldings {
		c.DeclareHoldings = &state.DeclareHoldings{}
	}
	return l.Ledger.Do(ctx, c)
}

type deafLedger struct{ plugin.Ledger }

func (l deafLedger) Do(ctx context.Context, c state.Command) (state.Reply, error) {
	r, err := l.Ledger.Do(ctx, c)
	return r, unheard(err)
}

func (l deafLedger) Admit(ctx context.Context) (state.Reply, error) {
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

func (g deafGossip) Removed(host netmap.HostID) bool { return host != g.self && g.Gossip.Removed(host) }

// frozen clocks never let a lease end.
func frozen(h *host) func() (lease.Moment, error) {
	return func() (lease.Moment, error) {
		return lease.Moment{Boot: h.booted.String(), Up: time.Hour, Wall: h.booted}, nil
	}
}

// trusting ledgers accept every start as the newest.
func trusting(*host) plugin.Deps {
	return plugin.Deps{Ledger: func(cfg ledger.Config) (plugin.Ledger, error) {
		cfg.Start, cfg.Earlier = uint64(time.Now().Unix()), nil
		l, err := ledger.Open(cfg)
		return l, err
	}}
}
