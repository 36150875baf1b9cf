package ipam_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ipam/ipamtest"
)

// tardyDisk writes at once, but Commit of a block returns late, as if other goroutines ran first.
type tardyDisk struct {
	*ipamtest.Disk
	hears chan struct{} // nil: at once
}

func (d *tardyDisk) Commit(set map[string][]byte, del ...string) error {
	err := d.Disk.Commit(set, del...)
	for k := range set {
		if d.hears != nil && strings.HasPrefix(k, "block/") {
			<-d.hears
			break
		}
	}
	return err
}

// TestABlockThatWentMeanwhileIsNotAdoptedAgain: the answer to a repeated request lists the blocks
// that the host has. The host may return one of them before it handles the answer.
func TestABlockThatWentMeanwhileIsNotAdoptedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ipamtest.NewLedger()
		disk := &tardyDisk{Disk: ipamtest.NewDisk()}
		a, b := &rig{t: t, host: l.Host("host-a")}, start(t, l, "host-b")
		i, err := ipam.New(ipam.Config{Decisions: a.host, Disk: disk, Facts: a.host.SubnetFacts})
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		a.IPAM, a.host.IPAM = i, i
		subnet := netip.MustParsePrefix("10.40.0.0/28") // blocks are /30
		id := a.network(subnet.String(), "")
		b.network(subnet.String(), "")
		held := []string{a.get(id, ""), a.get(id, "")} // all of a block
		time.Sleep(10 * time.Second)                   // it is fresh no more
		a.host.LoseAnswer()
		if got, err := a.ask(docker, id, ""); err == nil {
			t.Fatalf("%s was handed out, though the answer was lost", got)
		}
		disk.hears = make(chan struct{})
		asked := make(chan string)
		go func() {
			got, _ := a.ask(docker, id, "")
			asked <- got
		}()
		synctest.Wait() // the block that was granted is being written down
		for _, x := range held {
			a.release(id, x)
		}
		gone, err := a.Donate(docker, subnet, subnet, b.host.ID())
		if err != nil || !gone.Block.IsValid() {
			t.Fatalf("donated %+v, %v", gone, err)
		}
		close(disk.hears)
		who := map[string]string{<-asked: "host-a"}
		for range 14 {
			for name, r := range map[string]*rig{"host-a": a, "host-b": b} {
				got, err := r.ask(docker, id, "")
				if err != nil {
					continue
				}
				if other := who[got]; other != "" {
					t.Errorf("%s is held by %s and %s", got, other, name)
				}
				who[got] = name
			}
		}
	})
}
