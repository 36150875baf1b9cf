package lab

import (
	"context"
	"fmt"
)

// JoinSwarm makes one Docker swarm of all hosts, host 1 its manager, so that Docker's own
// overlay networks ("docker network create -d overlay --attachable") can be measured
// beside ours. Hosts that are in the swarm already stay in it.
func (l *Lab) JoinSwarm(ctx context.Context) error {
	hosts := l.Hosts()
	manager := hosts[0]
	if !inSwarm(ctx, manager) {
		addr := manager.Addr4().String()
		if _, err := manager.Docker(ctx, "swarm", "init", "--advertise-addr", addr, "--listen-addr", addr+":2377"); err != nil {
			return err
		}
	}
	token, err := manager.Docker(ctx, "swarm", "join-token", "--quiet", "worker")
	if err != nil {
		return err
	}
	return l.each(func(h *Host) error {
		if h.n == manager.n || inSwarm(ctx, h) {
			return nil
		}
		_, err := h.Docker(ctx, "swarm", "join", "--token", token, "--advertise-addr", h.Addr4().String(), manager.Addr4().String()+":2377")
		return err
	})
}

// LeaveSwarm takes all hosts out of the swarm that JoinSwarm made, the manager last.
func (l *Lab) LeaveSwarm(ctx context.Context) error {
	hosts := l.Hosts()
	for i := range hosts {
		h := hosts[len(hosts)-1-i]
		if !inSwarm(ctx, h) {
			continue
		}
		if _, err := h.Docker(ctx, "swarm", "leave", "--force"); err != nil {
			return fmt.Errorf("lab: leave the swarm: %w", err)
		}
	}
	return nil
}

func inSwarm(ctx context.Context, h *Host) bool {
	state, err := h.Docker(ctx, "info", "--format", "{{.Swarm.LocalNodeState}}")
	return err == nil && state == "active"
}
