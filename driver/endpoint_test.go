package driver_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/weftnet/weft/attach/attachtest"
	"github.com/weftnet/weft/netmap"
)

// onNetwork returns a host with one network. Its story begins after that.
func onNetwork(t testing.TB, subnets ...string) *docker {
	t.Helper()
	d := overSocket(t, attachtest.New())
	if len(subnets) == 0 {
		subnets = []string{"10.32.0.0/20"}
	}
	d.ok("CreateNetwork", createNetwork(netA, subnets...))
	_ = d.host.Story()
	return d
}

const (
	one    = "endpoint 111111111111 at 10.32.0.2 02:57:0a:20:00:02 in network 1"
	idle   = "ledger: network 1 10.32.0.0/20\ndisk: network aaaaaaaaaaaa"
	gone   = "facts: no endpoint 111111111111\nkernel: unplug endpoint 111111111111\naddresses: free are those of " + one
	joined = "kernel: plug " + one + "\nfacts: " + one
)

func TestEveryEndpointCallAgain(t *testing.T) {
	d := onNetwork(t)
	for range 2 {
		d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
		d.story("facts: " + one)
	}
	for range 2 {
		d.ok("Join", about(netA, end1))
		d.story(joined)
	}
	for range 2 {
		d.ok("Leave", about(netA, end1))
		d.story("facts: no endpoint 111111111111")
	}
	d.ok("Join", about(netA, end1)) // again into a container
	d.story(joined)
	d.ok("DeleteEndpoint", about(netA, end1)) // a dockerd that was killed may skip Leave
	d.story(gone)
	for _, method := range []string{"DeleteEndpoint", "Leave", "Leave", "DeleteEndpoint"} {
		d.ok(method, about(netA, end1))
	}
	d.refused(500, "endpoint 111111111111 is not known to Weft on this host; stop the container and start it again", "Join", about(netA, end1))
	d.story("")
	d.holds(idle)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.3/20"))
}

// TestANetworkThatTakesNoNewEndpoints: an endpoint that is refused leaves nothing behind, and
// Docker may repeat the calls for endpoints that exist already.
func TestANetworkThatTakesNoNewEndpoints(t *testing.T) {
	d := onNetwork(t)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.ok("Join", about(netA, end1))
	_ = d.host.Story()
	d.host.Before("Joinable", func(context.Context) error { return errors.New("network web was removed") })
	d.refused(500, "attach: network web was removed", "CreateEndpoint", createEndpoint(netA, end2, "10.32.0.3/20"))
	d.story("")
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.story("facts: " + one)
	if got := d.attach.Endpoints(); len(got) != 1 {
		t.Errorf("%d endpoints, want the one from before", len(got))
	}
}

// TestAnEndpointThatWasDeletedUnheard: Docker detached an endpoint, and deleted it while no agent
// ran. The release of its address removes it.
func TestAnEndpointThatWasDeletedUnheard(t *testing.T) {
	d := onNetwork(t)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.ok("Join", about(netA, end1))
	_ = d.host.Story()
	released := func() {
		t.Helper()
		for _, a := range []string{"10.32.0.2", "10.32.0.3"} {
			if err := d.attach.Of(netmap.OwnerDocker).Released(t.Context(), netip.MustParseAddr(a)); err != nil {
				t.Error(err)
			}
		}
	}
	released() // by a second container that was refused it
	d.story("")
	d.ok("Leave", about(netA, end1))
	d.ok("Join", about(netA, end1))
	_ = d.host.Story()
	released()
	d.story("")
	d.ok("Leave", about(netA, end1))
	_ = d.host.Story()
	released()
	d.story(gone)
	d.holds(idle)
}

func TestUnknownEndpoints(t *testing.T) {
	d := onNetwork(t)
	for _, body := range []any{about(netA, end1), about(netB, end1), about("", ""), "{}", `{"NetworkID":null}`} {
		d.ok("Leave", body)
		d.ok("DeleteEndpoint", body)
		d.ok("ProgramExternalConnectivity", body)
		d.ok("RevokeExternalConnectivity", body)
		if got := d.ok("EndpointOperInfo", body); got != `{"Value":{}}` {
			t.Errorf("oper info %s", got)
		}
	}
	d.story("")
	d.holds(idle)
}

func TestARepeatedCreateThatWantsSomethingElse(t *testing.T) {
	d := onNetwork(t)
	d.ok("CreateNetwork", createNetwork(netB, "10.50.0.0/20"))
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	_ = d.host.Story()
	const says = "endpoint 111111111111 exists on network aaaaaaaaaaaa with 10.32.0.2 and MAC 02:57:0a:20:00:02; remove it first"
	withMAC := createEndpoint(netA, end1, "10.32.0.2/20")
	withMAC["Interface"].(object)["MacAddress"] = "02:42:00:00:00:09"
	for _, body := range []object{createEndpoint(netA, end1, "10.32.0.3/20"), createEndpoint(netB, end1, "10.50.0.2/20"), withMAC} {
		d.refused(500, says, "CreateEndpoint", body)
	}
	d.story("")
	withMAC["Interface"].(object)["MacAddress"] = "02:57:0A:20:00:02" // the same in other letters
	if got := d.ok("CreateEndpoint", withMAC); got != `{"Interface":null}` {
		t.Errorf("answer %s", got)
	}
}

// TestTheNameOfAContainerIsNotPartOfACall: the record may have the container's name, which the
// agent read from Docker's API after the first call. The repeated call has none.
func TestTheNameOfAContainerIsNotPartOfACall(t *testing.T) {
	host := attachtest.New()
	d := overSocket(t, host)
	d.ok("CreateNetwork", createNetwork(netA, "10.32.0.0/20"))
	err := host.Commit(map[string][]byte{"endpoint/" + end1: fmt.Appendf(nil, `{"owner":"docker","endpoint":{"id":%q,"network":1,"v4":"10.32.0.2","mac":"02:57:0a:20:00:02","name":"web"},"local_network":%q,"joined":true}`, end1, netA)})
	if err != nil {
		t.Fatal(err)
	}
	d = overSocket(t, host)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	if e := d.attach.Endpoints(); len(e) != 1 || e[0].Endpoint.Name != "web" || !e[0].Joined {
		t.Errorf("endpoints %+v", e)
	}
}

func TestOnlyWhatWasEmptyIsAnswered(t *testing.T) {
	d := onNetwork(t, "10.32.0.0/20", "fd00::/64")
	for i, c := range []struct{ v4, v6, mac, answer string }{
		{"10.32.0.2/20", "", "", `{"Interface":{"Address":"","AddressIPv6":"","MacAddress":"02:57:0a:20:00:02"}}`},
		{"10.32.0.3/20", "fd00::3/64", "", `{"Interface":{"Address":"","AddressIPv6":"","MacAddress":"02:57:0a:20:00:03"}}`},
		{"", "fd00::4/64", "", `{"Interface":{"Address":"","AddressIPv6":"","MacAddress":"06:9e:b8:bf:60:a4"}}`},
		{"10.32.0.5/20", "fd00::5/64", "02:42:0a:20:00:05", `{"Interface":null}`},
	} {
		body := object{"NetworkID": netA, "EndpointID": id(fmt.Sprint(i)), "Interface": object{"Address": c.v4, "AddressIPv6": c.v6, "MacAddress": c.mac}}
		if got := d.ok("CreateEndpoint", body); got != c.answer {
			t.Errorf("%+v: answer %s", c, got)
		}
	}
}

func TestEndpointsThatMakeNoSense(t *testing.T) {
	d := onNetwork(t, "10.32.0.0/20", "fd00::/64")
	endpoint := func(v4, v6, mac string) object {
		return object{"NetworkID": netA, "EndpointID": end1, "Interface": object{"Address": v4, "AddressIPv6": v6, "MacAddress": mac}}
	}
	before := d.host.String()
	for _, c := range []struct {
		body any
		says string
	}{
		{endpoint("10.99.0.2/20", "", ""), "address 10.99.0.2 is outside of the network's subnets [10.32.0.0/20 fd00::/64]"},
		{endpoint("10.32.16.0/20", "", ""), "is outside"},
		{endpoint("10.32.0.2/20", "fd01::2/64", ""), "address fd01::2 is outside"},
		{endpoint("10.32.0.2/8", "", ""), "address 10.32.0.2/8 has another prefix length than its subnet 10.32.0.0/20"},
		{endpoint("10.32.0.2", "", ""), `address "10.32.0.2" is no address with a prefix length`},
		{endpoint("fd00::2/64", "", ""), "of the field's family"},
		{endpoint("", "10.32.0.2/20", ""), "of the field's family"},
		{endpoint("", "::ffff:10.32.0.2/116", ""), "of the field's family"},
		{endpoint("", "fe80::1%eth0/64", ""), "is no address"},
		{endpoint("10.32.0.2/20/20", "", ""), "is no address"},
		{endpoint("", "", ""), "endpoint 111111111111 has no address: create the network with --ipam-driver"},
		{endpoint("", "", "02:42:00:00:00:01"), "has no address"},
		{endpoint("10.32.0.2/20", "", "mac"), `MAC "mac": want six bytes`},
		{endpoint("10.32.0.2/20", "", "01:00:5e:00:00:01"), "is a group address"},
		{endpoint("10.32.0.2/20", "", "ff:ff:ff:ff:ff:ff"), "is a group address"},
		{endpoint("10.32.0.2/20", "", "00:00:00:00:00:00"), "MAC 00:00:00:00:00:00 is nobody's"},
		{endpoint("10.32.0.2/20", "", "02:00:00:00:00:00:00:01"), "want six bytes"},
		{object{"NetworkID": netA, "EndpointID": end1}, "Interface is missing"},
		{object{"NetworkID": netA, "EndpointID": end1, "Interface": nil}, "Interface is missing"},
		{object{"NetworkID": netA, "EndpointID": "", "Interface": object{}}, "EndpointID is missing"},
		{object{"EndpointID": end1, "Interface": object{}}, "NetworkID is missing"},
		{object{"NetworkID": netA, "EndpointID": end1, "Interface": "eth0"}, "field Interface is a JSON string"},
		{object{"NetworkID": netA, "EndpointID": 1}, "field EndpointID is a JSON number"},
	} {
		d.refused(400, c.says, "CreateEndpoint", c.body)
	}
	d.refused(400, "NetworkID is missing", "Join", about("", end1))
	d.refused(400, "EndpointID is missing", "Join", about(netA, ""))
	d.refused(500, "network bbbbbbbbbbbb is not known to Weft on this host, though its owner has it: its state directory was lost; remove the network and create it again", "CreateEndpoint", createEndpoint(netB, end1, "10.32.0.2/20"))
	d.story("")
	d.holds(before)
}

// TestAnEndpointThatComesTooLate: dockerd creates an endpoint so late that its address was taken
// back, and may belong to another container.
func TestAnEndpointThatComesTooLate(t *testing.T) {
	d := onNetwork(t)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	_ = d.host.Story()
	d.refused(500, "10.32.0.2 is held by endpoint 111111111111 on this host; if no container has that any more, the address is free within three minutes", "CreateEndpoint", createEndpoint(netA, end2, "10.32.0.2/20"))
	d.host.Before("Attach", failing(errors.New("10.32.0.3 was taken back")))
	d.refused(500, "endpoint 222222222222: 10.32.0.3 was taken back", "CreateEndpoint", createEndpoint(netA, end2, "10.32.0.3/20"))
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20")) // again: it is there
	d.host.Before("Attach", nil)
	d.story("facts: endpoint 111111111111 at 10.32.0.2 02:57:0a:20:00:02 in network 1")
	if e := d.attach.Endpoints(); len(e) != 1 {
		t.Errorf("endpoints %+v", e)
	}
}

func TestADiskThatIsFullKeepsNoEndpoint(t *testing.T) {
	d := onNetwork(t)
	d.host.Before("Commit", failing(errDiskFull))
	d.refused(500, "attach: keep endpoint 111111111111 on disk: no space left on device", "CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.story("")
	d.holds(idle)
	if e := d.attach.Endpoints(); len(e) != 0 {
		t.Errorf("endpoints %+v", e)
	}
	d.host.Before("Commit", nil)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.host.Before("Commit", failing(errDiskFull))
	d.refused(500, "no space left on device", "Join", about(netA, end1))
	if e := d.attach.Endpoints(); len(e) != 1 || e[0].Joined {
		t.Errorf("endpoints %+v", e)
	}
	// Docker now deletes the endpoint. The port is removed, the record only when the disk works.
	_ = d.host.Story()
	d.refused(500, "forget endpoint 111111111111 on disk: no space left on device", "DeleteEndpoint", about(netA, end1))
	d.story("facts: no endpoint 111111111111\nkernel: unplug endpoint 111111111111")
	d.host.Before("Commit", nil)
	finishDeletions(t, d)
	d.story(gone)
	d.holds(idle)
}

func TestAPortThatCannotBeMade(t *testing.T) {
	d := onNetwork(t)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.host.Before("Plug", failing(errors.New("linux: bridge wfb10: no buffer space available")))
	d.refused(500, "attach: linux: bridge wfb10: no buffer space available", "Join", about(netA, end1))
	if e := d.attach.Endpoints(); e[0].Joined {
		t.Errorf("endpoints %+v", e)
	}
	d.ok("DeleteEndpoint", about(netA, end1))
	d.holds(idle)
}

// TestAPortThatCannotBeRemoved: Docker ignores the error and releases the address, which must not
// be handed out while the port exists.
func TestAPortThatCannotBeRemoved(t *testing.T) {
	d := onNetwork(t)
	d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.ok("Join", about(netA, end1))
	_ = d.host.Story()
	d.host.Before("Unplug", failing(errors.New("linux: device busy")))
	d.refused(500, "attach: linux: device busy", "DeleteEndpoint", about(netA, end1))
	d.refused(500, "device busy", "DeleteEndpoint", about(netA, end1))
	d.refused(500, "endpoint 111111111111 is being deleted", "CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
	d.refused(500, "is not known", "Join", about(netA, end1))
	d.story("facts: no endpoint 111111111111\nfacts: no endpoint 111111111111")

	d = overSocket(t, d.host) // a restart remembers
	if e := d.attach.Endpoints(); len(e) != 1 || !e[0].Deleted || e[0].Joined {
		t.Errorf("endpoints %+v", e)
	}
	if _, ok := d.attach.Holder(d.attach.Endpoints()[0].Endpoint.V4); !ok {
		t.Error("nobody holds the address whose port is still there")
	}
	d.host.Before("Unplug", nil)
	finishDeletions(t, d)
	d.story(gone)
	d.holds(idle)
}

// TestALateJoinDoesNotBringAnEndpointBack: DeleteEndpoint is called during Join, at each step of
// it. Afterwards there is no endpoint.
func TestALateJoinDoesNotBringAnEndpointBack(t *testing.T) {
	for _, at := range []string{"Plug", "Commit"} {
		t.Run(at, func(t *testing.T) {
			d := onNetwork(t)
			d.ok("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20"))
			reached, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			d.host.Before(at, func(context.Context) error {
				once.Do(func() { close(reached); <-goOn })
				return nil
			})
			var calls sync.WaitGroup
			calls.Go(func() { d.say("Join", about(netA, end1)) })
			<-reached
			calls.Go(func() { d.ok("DeleteEndpoint", about(netA, end1)) })
			calls.Go(func() { d.say("Leave", about(netA, end1)) })
			close(goOn)
			calls.Wait()
			d.holds(idle)
			if e := d.attach.Endpoints(); len(e) != 0 {
				t.Errorf("endpoints %+v", e)
			}
		})
	}
}

// TestCallsInAnyOrderAtOnce: after any calls at the same time for one endpoint, a last
// DeleteEndpoint leaves nothing of it.
func TestCallsInAnyOrderAtOnce(t *testing.T) {
	d := onNetwork(t)
	for range 20 {
		var calls sync.WaitGroup
		for _, method := range []string{"Join", "DeleteEndpoint", "Leave", "Join", "EndpointOperInfo", "Leave", "DeleteEndpoint"} {
			calls.Go(func() { d.say("CreateEndpoint", createEndpoint(netA, end1, "10.32.0.2/20")) })
			calls.Go(func() { d.say(method, about(netA, end1)) })
		}
		calls.Wait()
		d.ok("DeleteEndpoint", about(netA, end1))
		d.holds(idle)
	}
}

// TestContainersStartAtOnce: dockerd starts many containers at a boot.
func TestContainersStartAtOnce(t *testing.T) {
	const containers = 50
	d := onNetwork(t)
	life := func(i int, methods ...string) {
		endpoint := fmt.Sprintf("%064x", i+1)
		for _, method := range methods {
			if method == "CreateEndpoint" {
				d.ok(method, createEndpoint(netA, endpoint, fmt.Sprintf("10.32.1.%d/20", i)))
				continue
			}
			d.ok(method, about(netA, endpoint))
		}
	}
	all := func(methods ...string) {
		var starts sync.WaitGroup
		for i := range containers {
			starts.Go(func() { life(i, methods...) })
		}
		starts.Wait()
	}
	all("CreateEndpoint", "Join", "EndpointOperInfo")
	if e := d.attach.Endpoints(); len(e) != containers {
		t.Fatalf("%d endpoints", len(e))
	}
	for _, e := range d.attach.Endpoints() {
		if !e.Joined {
			t.Errorf("%+v is not joined", e)
		}
	}
	all("Leave", "DeleteEndpoint")
	d.holds(idle)
}
