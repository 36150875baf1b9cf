package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// poolAsk is a PoolRequest that makes sense.
type poolAsk struct {
	want, area netip.Prefix
	v6         bool
	bits       int
}

func bad(format string, args ...any) error {
	return &rpc.BadRequest{Text: "ipam: " + fmt.Sprintf(format, args...)}
}

// parse refuses what cannot be meant.
func (r PoolRequest) parse() (poolAsk, error) {
	ask := poolAsk{v6: r.V6}
	if r.AddressSpace == "" {
		return ask, bad("AddressSpace is missing; dockerd sends %q", rpc.AddressSpace)
	}
	var err error
	if r.Pool != "" {
		if ask.want, err = parsePrefix("subnet", r.Pool); err != nil {
			return ask, err
		}
		if r.V6 && ask.want.Addr().Is4() {
			return ask, bad("subnet %s is IPv4, want IPv6", ask.want)
		}
		ask.v6 = ask.want.Addr().Is6()
	}
	if r.SubPool != "" {
		if ask.area, err = parsePrefix("ip-range", r.SubPool); err != nil {
			return ask, err
		}
		if !ask.want.IsValid() || !inside(ask.area, ask.want) {
			return ask, bad("ip-range %s is not inside subnet %q; give a --subnet that contains it", ask.area, r.Pool)
		}
	}
	bits, err := parseOptions(r.Options)
	ask.bits = bits.of(ask.v6)
	return ask, err
}

func parsePrefix(what, s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, bad("%s %.100q is no prefix; want one such as 10.40.0.0/16", what, s)
	}
	return p.Masked(), nil
}

// BlockBits are the prefix lengths of blocks that a user asked for; 0 = none.
type BlockBits struct{ V4, V6 int }

func (b BlockBits) of(v6 bool) int {
	if v6 {
		return b.V6
	}
	return b.V4
}

// ParseBlockBits reads the value of weft.block: /24, or /24,/112 for both families.
// Up to /32 it is about IPv4, beyond about IPv6.
func ParseBlockBits(s string) (b BlockBits, err error) {
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimPrefix(part, "/"))
		switch {
		case err != nil || n < 8 || n > 128 || !strings.HasPrefix(part, "/"):
			return BlockBits{}, fmt.Errorf("weft.block is %.50q; want a prefix length such as /24, or /24,/112 for IPv4 and IPv6", s)
		case n <= 32:
			b.V4 = n
		default:
			b.V6 = n
		}
	}
	return b, nil
}

// parseOptions reads --ipam-opt. Options of others are none of our business.
func parseOptions(opts map[string]string) (b BlockBits, err error) {
	for _, k := range slices.Sorted(maps.Keys(opts)) {
		switch {
		case k == optBlock:
			if b, err = ParseBlockBits(opts[k]); err != nil {
				return b, bad("%v", err)
			}
		case strings.HasPrefix(k, ownOptions):
			return b, bad("unknown --ipam-opt %.50q; known: %s", k, knownOptions)
		}
	}
	return b, nil
}

// RequestPool answers the pool of a subnet, at once if this host knows it. Without
// a subnet it answers another one each time, as dockerd repeats the request while
// it dislikes the answer and holds what it got.
func (i *IPAM) RequestPool(ctx context.Context, req PoolRequest) (PoolResponse, error) {
	ask, err := req.parse()
	if err != nil {
		return PoolResponse{}, err
	}
	p := i.lookup(ask.want)
	if p == nil {
		if p, err = i.makePool(ctx, ask); err != nil {
			return PoolResponse{}, err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s := p.Subnet()
	if ask.bits != 0 && ask.bits != s.BlockBits {
		return PoolResponse{}, netmap.Refuse(netmap.Conflict, "ipam: %s has blocks of /%d, not of /%d; leave weft.block out or give the same", s.Prefix, s.BlockBits, ask.bits)
	}
	if p.gone {
		return PoolResponse{}, released(s.Prefix)
	}
	clear(p.asked)
	resp := PoolResponse{PoolID: PoolID{s.Prefix, ask.area}.String(), Pool: s.Prefix.String()}
	if s.Gateway.IsValid() {
		// Docker need not ask for it: the same one on every host.
		resp.Data = map[string]string{dataGateway: cidr(s.Gateway, s.Prefix)}
	}
	return resp, nil
}

func cidr(a netip.Addr, subnet netip.Prefix) string {
	return netip.PrefixFrom(a, subnet.Bits()).String()
}

// makePool asks the ledger for a subnet and writes it down.
func (i *IPAM) makePool(ctx context.Context, ask poolAsk) (*pool, error) {
	leave, err := i.decide(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if p := i.lookup(ask.want); p != nil {
		return p, nil // made while we waited
	}
	routes := i.routes()
	for _, r := range routes {
		if ask.want.IsValid() && r.Prefix.Overlaps(ask.want) {
			return nil, netmap.Refuse(netmap.Overlaps, "ipam: subnet %s overlaps %s (%s) of this host; choose another --subnet", ask.want, r.Prefix, r.Name)
		}
	}
	s, err := i.cfg.Decisions.EnsureSubnet(ctx, SubnetRequest{Want: ask.want, V6: ask.v6, BlockBits: ask.bits, Avoid: prefixes(routes)})
	if err != nil {
		return nil, fmt.Errorf("ipam: %w", err)
	}
	if !s.Prefix.IsValid() || ask.want.IsValid() && s.Prefix != ask.want {
		return nil, fmt.Errorf("ipam: the ledger answered subnet %s when asked for %s", s.Prefix, ask.want)
	}
	if !ask.want.IsValid() && i.lookup(s.Prefix) != nil {
		return nil, fmt.Errorf("ipam: the ledger offered %s, which this host has already; give a --subnet", s.Prefix)
	}
	return i.savePool(s)
}

// savePool makes a decided subnet this host's.
func (i *IPAM) savePool(s netmap.Subnet) (*pool, error) {
	p := newPool(subnetRecord{Subnet: s})
	rec := map[string][]byte{key(kindSubnet, s.Prefix): encode(subnetRecord{Subnet: s})}
	if err := i.cfg.Disk.Commit(rec, key(kindRelease, s.Prefix)); err != nil {
		i.mu.Lock()
		i.releases[s.Prefix] = struct{}{}
		i.mu.Unlock()
		return nil, fmt.Errorf("ipam: %s was not taken into use: %w", s.Prefix, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.releases, s.Prefix)
	i.pools[s.Prefix] = p
	return p, nil
}

// routes are those that a subnet can collide with: a default route overlaps
// everything and means nothing.
func (i *IPAM) routes() []Route {
	if i.cfg.Routes == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(i.cfg.Routes()), func(r Route) bool { return r.Prefix.Bits() == 0 })
}

func prefixes(routes []Route) []netip.Prefix {
	out := make([]netip.Prefix, len(routes))
	for n, r := range routes {
		out[n] = r.Prefix
	}
	return out
}

// ReleasePool gives up a pool that became no network. One that did is given up by
// NetworkDeleted: dockerd calls this before it deletes the network, and never again.
func (i *IPAM) ReleasePool(ctx context.Context, req PoolRelease) (rpc.Empty, error) {
	id, err := ParsePoolID(req.PoolID)
	if err != nil {
		return rpc.Empty{}, err
	}
	return rpc.Empty{}, i.release(ctx, id.Subnet)
}

// release gives up a subnet unless a network uses it.
func (i *IPAM) release(ctx context.Context, subnet netip.Prefix) error {
	leave, err := i.decide(ctx)
	if err != nil {
		return err
	}
	defer leave()
	p, err := i.retire(ctx, subnet)
	if p == nil {
		return err
	}
	dead := p.keys()
	// From here on the blocks are not ours, whether the ledger knows or not.
	if err := i.cfg.Disk.Commit(map[string][]byte{key(kindRelease, subnet): nil}, dead...); err != nil {
		i.mu.Lock()
		defer i.mu.Unlock()
		p.gone = false
		return fmt.Errorf("ipam: %s was not released: %w", subnet, err)
	}
	i.mu.Lock()
	delete(i.pools, subnet)
	i.releases[subnet] = struct{}{}
	i.mu.Unlock()
	i.tellReleased(ctx, subnet)
	return nil
}

// retire lets nothing more begin in a pool that nobody uses and returns it. Nil:
// somebody does, or there is none. No write to it is under way after that: one that
// came late would survive as a right that the ledger gave to others.
func (i *IPAM) retire(ctx context.Context, subnet netip.Prefix) (*pool, error) {
	for {
		i.mu.Lock()
		p := i.pools[subnet]
		if p == nil || len(p.networks) > 0 || p.occupied(i.holder) {
			i.mu.Unlock()
			return nil, nil
		}
		f := p.flight
		p.gone = f == nil
		i.mu.Unlock()
		if f == nil {
			return p, nil
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("ipam: %s was not released, a question to the ledger about it is under way: %w", subnet, ctx.Err())
		}
	}
}

// tellReleased tells the ledger; the sweep repeats it when that fails. The caller
// is deciding.
func (i *IPAM) tellReleased(ctx context.Context, subnet netip.Prefix) {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	err := i.cfg.Decisions.ReleaseSubnet(ctx, subnet)
	if err == nil {
		err = i.cfg.Disk.Commit(nil, key(kindRelease, subnet))
	}
	if err != nil {
		i.problem(fmt.Errorf("ipam: the ledger is still to hear that %s is released here: %w", subnet, err))
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.releases, subnet)
}

// occupied reports whether an endpoint still has an address of the pool.
func (p *pool) occupied(holder func(netip.Addr) string) bool {
	for a, m := range p.marks {
		if m.Held && holder(a) != "" {
			return true
		}
	}
	return len(p.busy) > 0
}

// keys are all of a pool's records.
func (p *pool) keys() []string {
	out := []string{key(kindSubnet, p.subnet.Prefix)}
	for b := range p.blocks {
		out = append(out, key(kindBlock, b))
	}
	for a := range p.claims {
		out = append(out, key(kindClaim, a))
	}
	for a := range p.foreign {
		out = append(out, key(kindForeign, a))
	}
	for a := range p.marks {
		out = append(out, key(kindAddr, a))
	}
	return out
}

func released(subnet netip.Prefix) error {
	return netmap.Refuse(netmap.Unknown, "ipam: subnet %s is being released at this moment; try again", subnet)
}

// isRefusal reports whether an error is a final no rather than an unknown outcome.
func isRefusal(err error) bool {
	var r *netmap.Refusal
	return errors.As(err, &r) && r.Kind != netmap.NoQuorum
}
