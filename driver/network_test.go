package driver_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/weftnet/weft/attach/attachtest"
	"github.com/weftnet/weft/netmap"
)

var errDiskFull = errors.New("no space left on device")

func failing(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

func finishDeletions(t *testing.T, d *docker) {
	t.Helper()
	if err := d.attach.FinishDeletions(t.Context()); err != nil {
		t.Errorf("FinishDeletions: %v", err)
	}
}

func TestCreateAndDeleteNetworkAgain(t *testing.T) {
	d := overSocket(t, attachtest.New())
	d.ok("DeleteNetwork", object{"NetworkID": netA})
	for range 2 {
		d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	}
	d.story(made)
	d.refused(500, "network aaaaaaaaaaaa exists with subnets [10.32.0.0/20], not [10.33.0.0/20]", "CreateNetwork", createNetwork(netA, "10.33.0.0/20"))
	d.holds(`ledger: network 1 10.32.0.0/20
		disk: network aaaaaaaaaaaa`)
	for range 2 {
		d.ok("DeleteNetwork", object{"NetworkID": netA})
	}
	d.story("ledger: docker aaaaaaaaaaaa leaves network 1")
	d.ok("CreateNetwork", createNetwork(netA, "10.33.0.0/20"))
	d.holds(`ledger: network 2 10.33.0.0/20
		disk: network aaaaaaaaaaaa`)
}

// Ports.Changed is called when Networks already returns the new network, and when a removal is marked and kept.
func TestTheKernelHearsOfNetworksWhenTheyAreKept(t *testing.T) {
	d := overSocket(t, attachtest.New())
	var said []string
	d.host.After("Changed", func() {
		line := ""
		for _, r := range d.attach.Networks() {
			line += fmt.Sprintf("%.1s deleted %t;", r.ID, r.Deleted)
		}
		said = append(said, line)
	})
	d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	d.ok("DeleteNetwork", object{"NetworkID": netA})
	if got, want := strings.Join(said, "\n"), "a deleted false;\na deleted true;\na deleted true;"; got != want {
		t.Errorf("heard:\n%s\nwant:\n%s", got, want)
	}
}

func TestTwinsOnOneHostAreRefused(t *testing.T) {
	d := overSocket(t, attachtest.New())
	d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20", "fd00::/64"))
	_ = d.host.Story()
	const says = "is in use on this host by Docker network aaaaaaaaaaaa; use that one, or another --subnet"
	d.refused(500, "subnet 10.32.0.0/20 "+says, "CreateNetwork", createNetwork(netB, "10.32.0.0/20"))
	d.refused(500, "subnet fd00::/64 "+says, "CreateNetwork", createNetwork(netB, "10.40.0.0/20", "fd00::/64"))
	d.story("")
	d.ok("DeleteNetwork", object{"NetworkID": netA})
	d.ok("CreateNetwork", createNetwork(netB, "10.32.0.0/20"))
}

func TestOfParallelTwinsOneWins(t *testing.T) {
	d := overSocket(t, attachtest.New())
	var ok, refused int
	var mu sync.Mutex
	var calls sync.WaitGroup
	for i := range 16 {
		calls.Go(func() {
			status, _ := d.say("CreateNetwork", createNetwork(id(fmt.Sprintf("%x", i)), "10.32.0.0/20", "fd00::/64"))
			mu.Lock()
			defer mu.Unlock()
			switch status {
			case 200:
				ok++
			case 500:
				refused++
			}
		})
	}
	calls.Wait()
	if ok != 1 || refused != 15 || len(d.attach.Networks()) != 1 {
		t.Errorf("%d made, %d refused: %v", ok, refused, d.attach.Networks())
	}
}

func TestRefusalsOfTheLedgerReachTheUser(t *testing.T) {
	d := overSocket(t, attachtest.New())
	d.host.Before("EnsureNetwork", failing(netmap.Refuse(netmap.Conflict, "network shop exists with MTU 1400, not 1300; use the same options on every host")))
	d.refused(500, "attach: network shop exists with MTU 1400, not 1300; use the same options on every host", "CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	d.story("")
	d.holds("")
	d.refused(500, "network aaaaaaaaaaaa is not known to Weft on this host", "CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
}

func TestALedgerThatCannotBeReachedHearsLater(t *testing.T) {
	d := overSocket(t, attachtest.New())
	d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	d.host.Before("LeaveNetwork", failing(netmap.Refuse(netmap.NoQuorum, "keepers b and c do not answer")))
	d.refused(500, "network aaaaaaaaaaaa is removed here, the cluster will be told again: keepers b and c do not answer", "DeleteNetwork", object{"NetworkID": netA})
	d.holds(`ledger: network 1 10.32.0.0/20
		disk: network aaaaaaaaaaaa`)
	if err := d.attach.FinishDeletions(t.Context()); !errors.Is(err, &netmap.Refusal{Kind: netmap.NoQuorum}) {
		t.Errorf("FinishDeletions: %v", err)
	}
	d.refused(500, "is not known to Weft", "CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	_ = d.host.Story()

	// The agent restarts, then the keepers answer again.
	d = overSocket(t, d.host)
	d.host.Before("LeaveNetwork", nil)
	finishDeletions(t, d)
	finishDeletions(t, d)
	d.story("ledger: docker aaaaaaaaaaaa leaves network 1")
	d.holds("")
}

// TestANetworkThatCameBackIsNotLeft: a network is removed and created again while the ledger
// cannot be told that the host left it. Docker gives it another id, swarm the same one.
func TestANetworkThatCameBackIsNotLeft(t *testing.T) {
	for name, again := range map[string]string{"another id": netB, "the same id": netA} {
		t.Run(name, func(t *testing.T) {
			d := overSocket(t, attachtest.New())
			d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
			d.host.Before("LeaveNetwork", failing(errors.New("no majority")))
			d.say("DeleteNetwork", object{"NetworkID": netA})
			d.ok("CreateNetwork", createNetwork(again, "10.32.0.0/20"))
			_ = d.host.Story()
			d.host.Before("LeaveNetwork", nil)
			finishDeletions(t, d)
			if again == netB {
				d.story("ledger: docker aaaaaaaaaaaa goes, another stays in network 1")
			} else {
				d.story("")
			}
			d.holds(fmt.Sprintf(`ledger: network 1 10.32.0.0/20
				disk: network %.12s`, again))
		})
	}
}

// TestCreateWaitsForLeave: a network is created again while the ledger is still being told that the
// host left it. The create waits for that, so the new network keeps its membership.
func TestCreateWaitsForLeave(t *testing.T) {
	d := overSocket(t, attachtest.New())
	d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	_ = d.host.Story()
	leaving, goOn := make(chan struct{}), make(chan struct{})
	d.host.Before("LeaveNetwork", func(context.Context) error {
		close(leaving)
		<-goOn
		return nil
	})
	var calls sync.WaitGroup
	calls.Go(func() { d.ok("DeleteNetwork", object{"NetworkID": netA}) })
	<-leaving
	calls.Go(func() { d.ok("CreateNetwork", createNetwork(netB, "10.32.0.0/20")) })
	d.ok("CreateNetwork", createNetwork(id("c"), "10.50.0.0/20")) // others do not wait
	close(goOn)
	calls.Wait()
	d.story(`ledger: docker cccccccccccc makes network 2 10.50.0.0/20
		ledger: docker aaaaaaaaaaaa leaves network 1
		ledger: docker bbbbbbbbbbbb makes network 3 10.32.0.0/20`)
}

func TestADiskThatIsFullKeepsNoNetwork(t *testing.T) {
	d := overSocket(t, attachtest.New())
	d.host.Before("Commit", failing(errDiskFull))
	d.refused(500, "attach: keep network aaaaaaaaaaaa on disk: no space left on device", "CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	if r := d.attach.Networks(); len(r) != 1 || !r[0].Deleted {
		t.Errorf("networks %+v", r)
	}
	if err := d.attach.FinishDeletions(t.Context()); !errors.Is(err, errDiskFull) {
		t.Errorf("FinishDeletions: %v", err)
	}
	d.holds("ledger: network 1 10.32.0.0/20")
	d.host.Before("Commit", nil)
	finishDeletions(t, d)
	d.story(made + `
		ledger: docker aaaaaaaaaaaa leaves network 1`)
	d.holds("")
}

func TestADiskThatIsFullAtDelete(t *testing.T) {
	d := overSocket(t, attachtest.New())
	d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	d.host.Before("Commit", failing(errDiskFull))
	d.refused(500, "on disk: no space left on device", "DeleteNetwork", object{"NetworkID": netA})
	d.host.Before("Commit", nil)
	d.ok("CreateNetwork", createNetwork(netB, "10.32.0.0/20")) // Docker has no other
	finishDeletions(t, d)
	d.holds(`ledger: network 1 10.32.0.0/20
		disk: network bbbbbbbbbbbb`)
}

func TestEndpointsThatDockerLeftGoWithTheNetwork(t *testing.T) {
	d := overSocket(t, attachtest.New())
	d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	d.ok("CreateNetwork", createNetwork(netB, "10.50.0.0/20"))
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.ok("Join", about(netA, end1))
	d.ok("CreateEndpoint", createEndpoint(netB, end2, "10.50.0.2/20"))
	_ = d.host.Story()
	d.ok("DeleteNetwork", object{"NetworkID": netA})
	d.story(`facts: no endpoint 111111111111
		kernel: unplug endpoint 111111111111
		addresses: free are those of endpoint 111111111111 at 10.32.0.2 02:57:0a:20:00:02 in network 1
		ledger: docker aaaaaaaaaaaa leaves network 1`)
	d.holds(`ledger: network 2 10.50.0.0/20
		fact: endpoint 222222222222 at 10.50.0.2 02:57:0a:32:00:02 in network 2
		disk: endpoint 222222222222
		disk: network bbbbbbbbbbbb`)
}

func TestWhatTheHostHolds(t *testing.T) {
	d := overSocket(t, attachtest.New())
	for _, n := range []string{netB, netA} {
		d.ok("CreateNetwork", createNetwork(n, "10."+map[string]string{netA: "32", netB: "50"}[n]+".0.0/20"))
	}
	d.ok("CreateEndpoint", createEndpoint(netB, end2, "10.50.0.2/20"))
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	if n := d.attach.Networks(); len(n) != 2 || n[0].ID != netA || n[1].ID != netB {
		t.Errorf("networks %+v", n)
	}
	if e := d.attach.Endpoints(); len(e) != 2 || string(e[0].Endpoint.ID) != end1 || e[0].LocalNetwork != netA {
		t.Errorf("endpoints %+v", e)
	}
	if r, ok := d.attach.Holder(netip.MustParseAddr("10.50.0.2")); !ok || string(r.Endpoint.ID) != end2 {
		t.Errorf("holder %+v %v", r, ok)
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("10.50.0.3")} {
		if r, ok := d.attach.Holder(a); ok {
			t.Errorf("holder of %v: %+v", a, r)
		}
	}
}
