package driver_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/attach/attachtest"
)

// limit is how long Docker may have to wait for any answer.
const limit = 5 * time.Second

// late makes a call that must fail within the limit.
func (d *docker) late(says, method string, body any) {
	d.t.Helper()
	begin := time.Now()
	d.refused(500, says, method, body)
	if took := time.Since(begin); took >= limit {
		d.t.Errorf("%s took %v", method, took)
	}
}

// polite blocks until the context ends, as a ledger without a majority does.
func polite(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestALedgerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inMemory(t, attachtest.New())
		d.host.Before("EnsureNetwork", polite)
		d.late("CreateNetwork was not done in time", "CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
		d.holds("")
		d.host.Before("EnsureNetwork", nil)
		d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
		d.host.Before("LeaveNetwork", polite)
		d.late("DeleteNetwork was not done in time", "DeleteNetwork", object{"NetworkID": netA})
		d.host.Before("LeaveNetwork", nil)
		finishDeletions(t, d)
		d.holds("")
	})
}

// TestADecisionThatComesTooLate: CreateNetwork has timed out when the ledger decides. Docker sends
// no DeleteNetwork then, so nothing of the network may stay. Until then calls about the same
// subnet time out, and others do not wait.
func TestADecisionThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inMemory(t, attachtest.New())
		stubborn := make(chan struct{})
		d.host.Before("EnsureNetwork", func(context.Context) error { <-stubborn; return nil })
		d.late("CreateNetwork had no answer within", "CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
		d.late("an earlier call for subnet/10.32.0.0/20 is still under way", "CreateNetwork", createNetwork(netB, "10.32.0.0/20"))
		d.host.Before("EnsureNetwork", nil)
		d.ok("CreateNetwork", createNetwork(id("c"), "10.50.0.0/20"))
		close(stubborn)
		synctest.Wait()
		if r := d.attach.Networks(); len(r) != 2 || !r[0].Deleted || r[1].Deleted {
			t.Errorf("networks %+v", r)
		}
		d.ok("CreateNetwork", createNetwork(netB, "10.32.0.0/20"))
		finishDeletions(t, d)
		d.holds(`ledger: network 1 10.50.0.0/20
			ledger: network 2 10.32.0.0/20
			disk: network bbbbbbbbbbbb
			disk: network cccccccccccc`)
	})
}

// TestADiskThatHangs: after a CreateEndpoint that failed, Docker releases the address and sends no
// DeleteEndpoint. The endpoint must not be announced.
func TestADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inMemory(t, attachtest.New())
		d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
		_ = d.host.Story()
		slow := make(chan struct{})
		d.host.Before("Commit", func(context.Context) error { <-slow; return nil })
		d.late("CreateEndpoint had no answer within", "CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
		close(slow)
		synctest.Wait()
		d.story("")
		finishDeletions(t, d)
		d.story(gone)
		d.holds(idle)
	})
}

// TestAKernelThatHangs: Join times out, so Docker deletes the endpoint while the kernel still makes
// the port. In the end there is no port.
func TestAKernelThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inMemory(t, attachtest.New())
		d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
		d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
		_ = d.host.Story()
		stuck := make(chan struct{})
		d.host.Before("Plug", func(context.Context) error { <-stuck; return nil })
		d.late("Join had no answer within", "Join", about(netA, end1))
		d.late("an earlier call for endpoint/111", "Leave", about(netA, end1))
		d.late("an earlier call for endpoint/111", "DeleteEndpoint", about(netA, end1))
		if _, ok := d.attach.Holder(netip.MustParseAddr("10.32.0.2")); !ok {
			t.Error("nobody holds an address whose port may be there")
		}
		close(stuck)
		synctest.Wait()
		finishDeletions(t, d)
		d.story("kernel: plug " + one + "\n" + gone)
		d.holds(idle)
	})
}

// TestAPortThatIsMadeTooLate: Join has timed out when the port is made, so it must fail.
func TestAPortThatIsMadeTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inMemory(t, attachtest.New())
		d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
		d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
		d.host.Before("Plug", func(ctx context.Context) error { <-ctx.Done(); return nil })
		d.late("Join was not done in time", "Join", about(netA, end1))
		if e := d.attach.Endpoints(); len(e) != 1 || e[0].Joined {
			t.Errorf("endpoints %+v", e)
		}
	})
}

// TestADiskThatHangsInJoin: Docker deletes the endpoint while Join waits for the disk, and the
// endpoint stays deleted.
func TestADiskThatHangsInJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inMemory(t, attachtest.New())
		d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
		d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
		slow := make(chan struct{})
		d.host.Before("Commit", func(context.Context) error { <-slow; return nil })
		d.late("Join had no answer within", "Join", about(netA, end1))
		d.late("an earlier call for endpoint/111", "DeleteEndpoint", about(netA, end1))
		_ = d.host.Story()
		close(slow)
		synctest.Wait()
		if e := d.attach.Endpoints(); len(e) != 1 || !e[0].Deleted || e[0].Joined {
			t.Errorf("endpoints %+v", e)
		}
		finishDeletions(t, d)
		d.story(gone)
		d.holds(idle)
	})
}

func TestAKernelThatHangsAtUnplug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inMemory(t, attachtest.New())
		d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
		d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
		d.host.Before("Unplug", polite)
		d.late("DeleteEndpoint was not done in time", "DeleteEndpoint", about(netA, end1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.attach.FinishDeletions(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("FinishDeletions: %v", err)
		}
		d.host.Before("Unplug", nil)
		finishDeletions(t, d)
		d.holds(idle)
	})
}
