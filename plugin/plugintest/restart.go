package plugintest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/ipam"
)

// Restart is a restart of dockerd. With live-restore its containers run on; else
// they were killed, and are started again after their ends were cleaned up; those
// that do not start stay stopped. The error says what the plugin did not answer
// as before.
func (e *Engine) Restart(ctx context.Context, liveRestore bool) error {
	e.mu.Lock()
	e.life++
	networks := slices.SortedFunc(maps.Values(e.networks), func(a, b *network) int { return cmp.Compare(a.ID, b.ID) })
	e.mu.Unlock()
	var errs []error
	for _, n := range networks {
		for _, p := range n.pools {
			errs = append(errs, e.replay(ctx, p))
		}
	}
	for _, c := range e.Containers() {
		if !c.Running {
			continue
		}
		e.mu.Lock()
		n := e.networks[c.Network]
		e.mu.Unlock()
		for i, a := range c.Addrs {
			errs = append(errs, e.again(of(ctx, c.Name), n.pools[i], a))
		}
	}
	if !liveRestore {
		e.startAgain(ctx)
	}
	e.tell(dockerapi.Event{Kind: dockerapi.Resync})
	return errors.Join(errs...)
}

func (e *Engine) startAgain(ctx context.Context) {
	killed := e.Containers()
	for _, c := range killed {
		_ = e.Stop(ctx, c.Name) // Docker only logs it
	}
	for _, c := range killed {
		if c.Running {
			_, _ = e.Run(ctx, c.Name, c.Network, c.Want) // Docker only logs it
		}
	}
}

// replay is what dockerd asks for each stored pool at its start.
func (e *Engine) replay(ctx context.Context, p poolOf) error {
	var got ipam.PoolResponse
	if err := e.call(ctx, "IpamDriver.RequestPool", ipam.PoolRequest{AddressSpace: "weft", Pool: p.subnet.String(), V6: p.v6}, &got); err != nil {
		return err
	}
	if got.PoolID != p.id || got.Pool != p.subnet.String() {
		return fmt.Errorf("pool %s came back as %s, %s", p.id, got.PoolID, got.Pool)
	}
	return e.call(ctx, "IpamDriver.RequestAddress", gatewayRequest(p), nil)
}

func gatewayRequest(p poolOf) ipam.AddressRequest {
	bare, err := netip.ParsePrefix(p.gateway)
	req := ipam.AddressRequest{PoolID: p.id, Options: map[string]string{"RequestAddressType": "com.docker.network.gateway"}}
	if err == nil {
		req.Address = bare.Addr().String()
	}
	return req
}

func (e *Engine) again(ctx context.Context, p poolOf, a netip.Prefix) error {
	var got ipam.AddressResponse
	err := e.call(ctx, "IpamDriver.RequestAddress", ipam.AddressRequest{PoolID: p.id, Address: a.Addr().String()}, &got)
	if err == nil && got.Address != a.String() {
		err = fmt.Errorf("address %s came back as %s", a, got.Address)
	}
	return err
}

// Adopt makes this engine a copy of another one, as when its whole machine is cloned.
func (e *Engine) Adopt(o *Engine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.life, e.networks, e.containers = o.life, maps.Clone(o.networks), maps.Clone(o.containers)
}
