package sim_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

// loss is the end of a majority of the keepers.
type loss struct {
	lost  []*host
	away  []*host // off during the recovery, and no keepers that were said to be off
	there []*host
	off   []string // what the operator says of the lost
}

// majorityLost destroys most keepers, and with them their last decisions, by which other hosts have
// handed out addresses. Some of those hosts are off too while one that is left recovers the ledger.
// Whatever they declare to it later, no address is given twice. In the end the lost machines are
// repaired and come back with their old disks.
func (h *host) majorityLost() {
	w := h.w
	l := w.chooseLoss(h)
	w.tell("lost will be %v; away %v; there %v", l.lost, l.away, l.there)
	if text, err := l.there[0].recover(l.off); err == nil {
		w.fault("(5) %s recovered a ledger that works: %s", l.there[0], text)
	}
	if h.dice.IntN(4) > 0 {
		w.meet("decisions that only lost keepers knew")
		w.decideApart(l)
	}
	for _, o := range slices.Concat(l.lost, l.away) {
		o.takeFor(h)
		o.powerOff()
	}
	w.net.HealAll()
	w.recovered(h, l)
	w.covet(h, l)
	for _, o := range l.away {
		o.powerOn()
		w.until(fmt.Sprintf("%s is a member again", o), time.Minute, func() bool { return o.agent().Report().State == "ready" })
		o.replay()
		o.leaveFor(h)
	}
	w.until("the recovered ledger gives out again", 2*time.Minute, func() bool {
		w.nameWhoRecovered(slices.Concat(l.there, l.away))
		return !slices.ContainsFunc(l.there, func(o *host) bool { return o.agent() == nil || len(o.awaited()) > 0 })
	})
	w.covet(h, l)
	for _, o := range l.lost {
		o.powerOn()
		o.reborn(2 * time.Minute)
		o.account()
		o.replay()
		o.leaveFor(h)
	}
}

// nameWhoRecovered lets operators tell hosts that know only lost keepers where the recovered ledger
// is, as the status of those hosts asks for.
func (w *world) nameWhoRecovered(among []*host) {
	leads := slices.IndexFunc(among, func(o *host) bool { return len(o.leads()) > 0 })
	for _, o := range among {
		if leads < 0 || o.agent() == nil || !slices.ContainsFunc(o.awaited(), func(p string) bool { return strings.Contains(p, "weft connect") }) {
			continue
		}
		w.meet("a present keeper named by weft connect")
		if _, err := o.agent().Connect(context.Background(), api.PeerChange{Peer: among[leads].addr.String()}); err != nil {
			w.tell("%s: weft connect: %v", o, err)
		}
	}
}

// takeFor is take, unless this host is h, on which the caller acts already.
func (h *host) takeFor(by *host) {
	if h != by {
		h.take()
	}
}

func (h *host) leaveFor(by *host) {
	if h != by {
		h.leave()
	}
}

// chooseLoss picks a majority of the keepers to lose, and some of the other hosts to be off.
func (w *world) chooseLoss(h *host) loss {
	keepers := map[netmap.HostID]bool{}
	w.until("somebody leads", time.Minute, func() bool {
		for _, o := range w.hosts {
			for _, id := range o.leads() {
				keepers[id] = true
			}
		}
		return len(keepers) > 0
	})
	var l loss
	for _, i := range h.dice.Perm(len(w.hosts)) {
		o := w.hosts[i]
		switch {
		case keepers[o.self] && len(l.lost) <= len(keepers)/2:
			l.lost, l.off = append(l.lost, o), append(l.off, o.self.String())
		case !keepers[o.self] && len(l.there) > 0 && h.dice.IntN(2) == 0:
			l.away = append(l.away, o)
		default:
			l.there = append(l.there, o)
		}
	}
	return l
}

// decideApart lets the hosts that will be off decide and hand out addresses while they are cut off
// from the others.
func (w *world) decideApart(l loss) {
	var there []netip.Addr
	for _, o := range l.there {
		there = append(there, o.addr)
	}
	w.net.Split(there...)
	time.Sleep(10 * time.Second) // a leader is found
	var all sync.WaitGroup
	for _, o := range slices.Concat(l.lost, l.away) {
		all.Go(func() {
			for range 4 {
				o.takeFor(w.fated)
				o.run(noAddr)
				o.runAt()
				o.leaveFor(w.fated)
			}
		})
	}
	all.Wait()
}

func (h *host) recover(off []string) (string, error) {
	l := h.running.Load()
	if l == nil {
		return "", errors.New("it is being restarted")
	}
	text, err := l.agent.RecoverLedger(context.Background(), api.Recovery{Off: off})
	if h.running.Load() != l {
		return "", fmt.Errorf("its agent was ended meanwhile, and said %q, %w", text, err)
	}
	return text, err
}

// recovered lets operators try to recover the ledger on one host after the other, on two at once at
// first, until one of them succeeds.
func (w *world) recovered(h *host, l loss) {
	before := w.generation()
	began := 0
	try := func(o *host) {
		text, err := o.recover(l.off)
		w.tell("%s: weft ledger recover: %s%v", o, text, err)
		if err == nil {
			w.mu.Lock()
			began++
			w.mu.Unlock()
		}
	}
	w.until("the ledger is recovered", 5*time.Minute, func() bool {
		var all sync.WaitGroup
		for _, i := range h.dice.Perm(len(l.there))[:min(2, len(l.there))] {
			all.Go(func() { try(l.there[i]) })
		}
		if o := l.there[h.dice.IntN(len(l.there))]; h.dice.IntN(4) == 0 {
			time.Sleep(time.Duration(h.dice.IntN(4000)) * time.Millisecond)
			w.meet("crashed during the recovery")
			o.takeFor(h)
			w.tell("%s: crash during the recovery", o)
			o.crash()
			o.start()
			o.leaveFor(h)
		}
		all.Wait()
		time.Sleep(time.Second)
		return w.generation() > before // also where the one that did it was ended before it could say so
	})
	w.meet("ledger recovered")
	if began > 1 {
		w.fault("(5) %d operators recovered the ledger at once", began)
	}
	w.until("all who are there know the new generation", time.Minute, func() bool {
		return !slices.ContainsFunc(l.there, func(o *host) bool { a := o.agent(); return a == nil || a.View().Generation <= before })
	})
}

func (w *world) generation() (newest uint64) {
	for _, o := range w.hosts {
		if a := o.agent(); a != nil {
			newest = max(newest, a.View().Generation)
		}
	}
	return newest
}

// covet lets the hosts that are up request addresses that other hosts hold, and any address. granted
// checks the answers.
func (w *world) covet(h *host, l loss) {
	for i, o := range slices.Concat(l.away, l.lost) {
		for _, c := range o.docker.Containers() {
			if len(c.Addrs) == 0 || !c.Addrs[0].Addr().Is4() || h.dice.IntN(2) == 0 {
				continue
			}
			thief := l.there[i%len(l.there)]
			thief.takeFor(h)
			if thief.run(c.Addrs[0].Addr()) {
				w.meet("--ip granted of what another had")
			} else {
				w.meet("--ip refused of what another has")
			}
			thief.leaveFor(h)
		}
	}
	for _, o := range l.there {
		o.takeFor(h)
		o.run(noAddr)
		o.leaveFor(h)
	}
}

// awaited returns the hosts whose declarations the recovered ledger waits for, as far as this host
// knows.
func (h *host) awaited() (out []string) {
	for _, p := range h.agent().Report().Problems {
		if strings.Contains(p, "the ledger was recovered") {
			out = append(out, p)
		}
	}
	return out
}
