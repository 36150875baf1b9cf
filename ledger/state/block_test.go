package state

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weftnet/weft/netmap"
)

const web = "10.40.0.0/24"

func TestBlocksAreGrantedLowestFirstAndReusedLast(t *testing.T) {
	c := newCluster(t, 3)
	c.refused(grant(1, web), netmap.Unknown, web)
	c.ok(ensure(1, web))
	c.refused(grant(2, web), netmap.Unknown, "host-2")
	c.ok(ensure(2, web))
	c.ok(ensure(3, web))
	one := c.ok(grant(1, web)).Block
	two := c.ok(grant(2, web)).Block
	if one.Prefix != pfx("10.40.0.0/28") || two.Prefix != pfx("10.40.0.16/28") || one.Epoch >= two.Epoch || one.Owner != hostID(1) {
		t.Errorf("granted %+v and %+v", one, two)
	}
	back := func(h int, b netmap.Block) Command {
		return Command{Kind: KindReturnBlock, Host: hostID(h), ReturnBlock: &ReturnBlock{Block: b.Prefix, Epoch: b.Epoch}}
	}
	c.ok(back(2, *one)) // not its own
	stale := *one
	stale.Epoch--
	c.ok(back(1, stale))
	if len(c.last) != 0 {
		t.Errorf("a stale return changed %v", c.last)
	}
	c.ok(back(1, *one))
	c.ok(back(1, *one))
	c.ok(back(2, *two))
	for i := range 14 {
		if b := c.ok(grant(1, web)).Block; b.Prefix == one.Prefix || b.Prefix == two.Prefix {
			t.Fatalf("grant %d gave %s again", i, b.Prefix)
		}
	}
	again := c.ok(grant(2, web)).Block
	if again.Prefix != one.Prefix || again.Epoch <= two.Epoch {
		t.Errorf("granted %+v, want the one that was returned first, with a new epoch", again)
	}
	c.refused(grant(2, web), netmap.Exhausted, "1 of 16", web)
	c.ok(grant(3, web))
	c.refused(grant(2, web), netmap.Exhausted, web, "host-1", "holds 14", "host-2", "holds 1", "weft host rm")
}

func TestGrantsWithinAnIPRange(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(ensure(1, web))
	c.ok(ensure(2, web))
	in := func(h int, r string) Command {
		return Command{Kind: KindGrantBlock, Host: hostID(h), GrantBlock: &GrantBlock{Subnet: pfx(web), Within: pfx(r)}}
	}
	if b := c.ok(in(1, "10.40.0.128/25")).Block; b.Prefix != pfx("10.40.0.128/28") {
		t.Errorf("got %s", b.Prefix)
	}
	if b := c.ok(in(1, "10.40.0.36/30")).Block; b.Prefix != pfx("10.40.0.32/28") {
		t.Errorf("a range smaller than a block: got %s", b.Prefix)
	}
	c.refused(in(2, "10.40.0.40/29"), netmap.Exhausted, "10.40.0.40/29", "host-1")
	c.refused(in(2, "10.41.0.0/25"), netmap.Outside, "10.41.0.0/25")
	c.refused(in(2, "10.40.0.0/16"), netmap.Outside)
	many := in(2, "10.40.0.128/25")
	many.GrantBlock.Count = 64
	for range 7 {
		if r := c.ok(many); len(r.Blocks) != 1 || r.Block.Prefix != r.Blocks[0].Prefix {
			t.Errorf("got %d blocks", len(r.Blocks))
		}
	}
	have := in(2, "10.40.0.128/25")
	have.GrantBlock.Have = true
	if r := c.ok(have); len(r.Blocks) != 7 || len(c.last) != 0 {
		t.Errorf("asked for what it has, got %d blocks and changes %v", len(r.Blocks), c.last)
	}
	many.GrantBlock.Count = 65
	c.refused(many, netmap.BadInput)
}

func TestBlocksWithoutAUsableAddressAreNotGranted(t *testing.T) {
	c := newCluster(t, 1)
	const small = "10.40.0.0/29" // blocks of /31: .0/31 is the network address and the gateway
	c.ok(ensure(1, small))
	c.ok(reserveOf(1, small, Gateway, ""))
	c.ok(reserveOf(1, small, "x", "10.40.0.6"))
	first := c.ok(grant(1, small))
	second := c.ok(grant(1, small))
	if first.Block.Prefix != pfx("10.40.0.2/31") || second.Block.Prefix != pfx("10.40.0.4/31") {
		t.Errorf("granted %s and %s", first.Block.Prefix, second.Block.Prefix)
	}
	c.refused(grant(1, small), netmap.Exhausted)
}

func TestGrantsInAnIPv6Subnet(t *testing.T) {
	c := newCluster(t, 1)
	c.ok(ensure(1, "fd00:9::/64"))
	if b := c.ok(grant(1, "fd00:9::/64")).Block; b.Prefix != pfx("fd00:9::/80") {
		t.Errorf("got %s", b.Prefix)
	}
	if got := c.ok(reserveOf(1, "fd00:9::/64", Gateway, "")).Subnet.Gateway; got != ip("fd00:9::1") {
		t.Errorf("gateway %s", got)
	}
}

func TestClaims(t *testing.T) {
	c := newCluster(t, 3)
	c.ok(ensure(1, web))
	c.ok(ensure(2, web))
	first := c.ok(claimOf(1, web, "10.40.0.20")).Claim
	if again := c.ok(claimOf(1, web, "10.40.0.20")).Claim; *again != *first {
		t.Errorf("claimed again: %+v", again)
	}
	if r := c.refused(claimOf(2, web, "10.40.0.20"), netmap.Held, "10.40.0.20", "host-1"); r.Host.ID != hostID(1) {
		t.Errorf("the refusal names %v", r.Host)
	}
	c.refused(claimOf(3, web, "10.40.0.21"), netmap.Unknown, "host-3")
	c.refused(claimOf(1, web, "10.41.0.1"), netmap.Outside)
	c.refused(claimOf(1, web, "10.40.0.255"), netmap.BadInput)
	c.refused(claimOf(1, "10.99.0.0/24", "10.99.0.1"), netmap.Unknown)
	// The grant around it says that the address is another host's.
	granted := c.ok(Command{Kind: KindGrantBlock, Host: hostID(2), GrantBlock: &GrantBlock{Subnet: pfx(web), Count: 2}})
	if len(granted.Claims) != 1 || granted.Claims[0] != *first {
		t.Errorf("granted %v with the claims %v", granted.Blocks, granted.Claims)
	}
	r := c.refused(claimOf(1, web, "10.40.0.5"), netmap.Held, "host-2", "10.40.0.0/28")
	if r.Block == nil || r.Block.Owner != hostID(2) {
		t.Errorf("the refusal does not say whom to ask: %+v", r)
	}
	unclaim := func(h int, epoch uint64) Command {
		return Command{Kind: KindUnclaim, Host: hostID(h), Unclaim: &Unclaim{ip("10.40.0.20"), epoch}}
	}
	c.ok(unclaim(2, first.Epoch))
	c.ok(unclaim(1, first.Epoch-1))
	if len(c.last) != 0 {
		t.Errorf("a stale return changed %v", c.last)
	}
	c.ok(unclaim(1, first.Epoch))
	c.refused(claimOf(1, web, "10.40.0.20"), netmap.Held, "cede")
}

func TestCeding(t *testing.T) {
	c := newCluster(t, 3)
	for h := 1; h <= 2; h++ {
		c.ok(ensure(h, web))
	}
	c.ok(grant(1, web))
	cede := func(by int, addr string, to int) Command {
		return Command{Kind: KindCede, Host: hostID(by), Cede: &Cede{ip(addr), hostID(to)}}
	}
	c.refused(cede(2, "10.40.0.7", 2), netmap.Busy, "host-2")
	c.refused(cede(1, "10.40.0.7", 9), netmap.Unknown)
	c.refused(cede(1, "10.40.0.7", 3), netmap.Unknown, "host-3")
	c.refused(cede(1, "10.40.0.0", 2), netmap.Held)
	c.refused(cede(1, "10.99.0.7", 2), netmap.Outside)
	got := c.ok(cede(1, "10.40.0.7", 2)).Claim
	if got.Owner != hostID(2) {
		t.Errorf("ceded %+v", got)
	}
	c.ok(cede(1, "10.40.0.7", 2))
	c.ok(claimOf(2, web, "10.40.0.7"))
	// From a claim of its own, back to the owner of the block.
	c.ok(cede(2, "10.40.0.7", 1))
	c.refused(cede(2, "10.40.0.7", 2), netmap.Busy, "host-1")
}

func TestNoTwoHostsOwnTheSameAddressAfterAReturn(t *testing.T) {
	c := newCluster(t, 3)
	c.ok(ensure(1, web))
	c.ok(ensure(2, web))
	c.ok(ensure(3, web))
	b := c.ok(grant(1, web)).Block
	c.ok(Command{Kind: KindCede, Host: hostID(1), Cede: &Cede{ip("10.40.0.7"), hostID(2)}})
	c.ok(Command{Kind: KindReturnBlock, Host: hostID(1), ReturnBlock: &ReturnBlock{Block: b.Prefix, Epoch: b.Epoch}})
	for range 15 {
		if got := c.ok(grant(1, web)); got.Block.Prefix == b.Prefix || len(got.Claims) > 0 {
			t.Errorf("got %s and claims %v", got.Block.Prefix, got.Claims)
		}
	}
	last := c.ok(grant(3, web))
	if last.Block.Prefix != b.Prefix || len(last.Claims) != 1 || last.Claims[0].Owner != hostID(2) {
		t.Errorf("got %v and claims %v, want the block that was returned", last.Block, last.Claims)
	}
}

// TestGrantsTellOfReservations: the host took the subnet into use before another one
// reserved an address in it.
func TestGrantsTellOfReservations(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(ensure(2, "10.40.0.0/28"))
	c.ok(ensure(1, "10.40.0.0/28"))
	c.ok(reserveOf(1, "10.40.0.0/28", "router", "10.40.0.2"))
	got := c.ok(grant(2, "10.40.0.0/28"))
	if want := []netmap.Claim{{Addr: ip("10.40.0.2"), Subnet: pfx("10.40.0.0/28")}}; !slices.Equal(got.Claims, want) {
		t.Errorf("granted %v with %v, want %v", got.Blocks, got.Claims, want)
	}
	if got := c.ok(grant(2, "10.40.0.0/28")).Claims; len(got) != 0 {
		t.Errorf("the next block comes with %v", got)
	}
}

// TestAReturnedClaimIsInUseUntilLately: whoever is granted the block around it is told.
func TestAReturnedClaimIsInUseUntilLately(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(ensure(1, web))
	c.ok(ensure(2, web))
	claim := c.ok(claimOf(1, web, "10.40.0.5")).Claim
	c.ok(Command{Kind: KindUnclaim, Host: hostID(1), Unclaim: &Unclaim{claim.Addr, claim.Epoch}})
	if got := c.ok(grant(2, web)).Late; !slices.Equal(got, []netip.Addr{claim.Addr}) {
		t.Errorf("granted with the late addresses %v, want %v", got, claim.Addr)
	}
}

// TestAReturnedBlockTellsWhatWasInUse: its next owner hands that out last. What lies
// elsewhere is nobody's to tell, and more than a few is not remembered.
func TestAReturnedBlockTellsWhatWasInUse(t *testing.T) {
	c := newCluster(t, 2)
	c.ok(sized(1, "10.40.0.0/16", 24))
	c.ok(ensure(2, "10.40.0.0/16"))
	b := c.ok(grant(1, "10.40.0.0/16")).Block
	late := []netip.Addr{ip("10.40.200.1"), ip("192.0.2.1"), {}}
	for a := b.Prefix.Addr().Next(); len(late) < 103; a = a.Next() {
		late = append(late, a)
	}
	stale := Command{Kind: KindReturnBlock, Host: hostID(2), ReturnBlock: &ReturnBlock{Block: b.Prefix, Epoch: b.Epoch, Late: late}}
	c.ok(stale) // it is not this host's
	back := stale
	back.Host = hostID(1)
	c.ok(back)
	again := grant(2, "10.40.0.0/16")
	again.GrantBlock.Within = b.Prefix
	if got := c.ok(again); got.Block.Prefix != b.Prefix || !slices.Equal(got.Late, late[3:67]) {
		t.Errorf("granted %v, late %v", got.Block, got.Late)
	}
}
