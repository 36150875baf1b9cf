package sim_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

// left runs `weft host leave`, with --force if the host has containers. The machine may lose power
// during that. Other hosts get its addresses, and it comes back as a new host.
func (h *host) left() {
	w := h.w
	force := h.dice.IntN(2) == 0
	if force {
		w.meet("left with containers")
	} else {
		h.stayed()
		h.empty()
		w.meet("left in order")
	}
	if h.dice.IntN(2) == 0 {
		h.leaveMidway(force)
	}
	w.until(fmt.Sprintf("%s has left", h), 2*time.Minute, func() bool {
		_, err := h.agent().Leave(context.Background(), api.Departure{Force: force})
		if err != nil {
			w.tell("%s: weft host leave: %v", h, err)
		}
		return err == nil
	})
	h.refused("left", "has left cluster", "new-identity")
	if h.dice.IntN(2) == 0 {
		h.restartSoon()
		h.refused("left", "has left cluster", "new-identity")
	}
	w.plunder(h)
	if _, err := h.agent().NewIdentity(context.Background(), api.IdentityReset{}); err != nil {
		w.fault("%s: weft host new-identity: %v", h, err)
		return
	}
	h.reborn(time.Second)
	h.account()
	if h.agent().Report().State != "ready" {
		w.fault("%s is %s after its return", h, h.agent().Report().State)
	}
}

// stayed checks that a host with containers refuses to leave and continues as before.
func (h *host) stayed() {
	running := false
	for _, c := range h.docker.Containers() {
		running = running || c.Running
	}
	_, err := h.agent().Leave(context.Background(), api.Departure{})
	switch {
	case running && err == nil:
		h.w.fault("%s left, though its containers run", h)
	case running && !errors.Is(err, &netmap.Refusal{Kind: netmap.Held}):
		h.w.fault("%s: weft host leave, with containers: %v", h, err)
	}
}

// empty removes all containers.
func (h *host) empty() {
	for _, c := range h.docker.Containers() {
		ctx, cancel := h.ctx()
		if err := h.docker.Remove(ctx, c.Name); err != nil {
			h.w.fault("(6) %s: rm: %v", h, err)
		}
		cancel()
	}
}

// leaveMidway cuts the power at some instant while the host leaves. Whether it has left is known
// only when it has started again and asked the ledger.
func (h *host) leaveMidway(force bool) {
	a := h.agent()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := a.Leave(context.Background(), api.Departure{Force: force})
		h.w.tell("%s: weft host leave, before the crash: %v", h, err)
	}()
	time.Sleep(time.Duration(h.dice.IntN(400)) * time.Millisecond)
	h.crash()
	<-done
	h.start()
	h.w.meet("crashed while it left")
	h.w.until(fmt.Sprintf("%s knows whether it left", h), 2*time.Minute, func() bool {
		state := h.agent().Report().State
		return state == "ready" || state == "left"
	})
}
