package dockerapi

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/weftnet/weft/netmap"
)

// Two answers about the same container, shortened: of Docker 20.10, which lists the short id among the
// aliases and has no DNSNames, and of 28, which lists all names there.
var inspected = map[string]string{
	"1.41": `{"Id":"c0ffee0000004444444444444444444444444444444444444444444444444444","Name":"/web","State":{"Running":true,"Health":{"Status":"unhealthy"}},
	"Config":{"Hostname":"h1","Env":["PATH=/bin","MARATHON_APP_ID=/web/site","PORT_8080=31005","PORT_X=1","PORT0=31005","SERVICE_NAME=web","XSERVICE_A=1"],"Image":"acme/web:1","Labels":{"SERVICE_NAME":"label","SERVICE_TAGS":"a,b","other":"x"},"ExposedPorts":{"80/tcp":{},"53/udp":{}}},
	"HostConfig":{"NetworkMode":"overlay"},
	"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8000"}],"9/sctp":null},"Networks":{
	"bridge":{"Aliases":null,"NetworkID":"n0","EndpointID":"e0","IPAddress":"172.17.0.2"},
	"overlay":{"Aliases":["www","c0ffee000000","db"],"NetworkID":"n1","EndpointID":"e1","IPAddress":"10.32.0.3"}}}}`,
	"1.47": `{"Id":"c0ffee0000004444444444444444444444444444444444444444444444444444","Name":"/web","State":{"Running":true,"Health":{"Status":"unhealthy"}},
	"Config":{"Hostname":"h1","Env":["PATH=/bin","MARATHON_APP_ID=/web/site","PORT_8080=31005","SERVICE_NAME=web"],"Image":"acme/web:1","Labels":{"SERVICE_TAGS":"a,b"},"ExposedPorts":{"80/tcp":{},"53/udp":{}}},
	"HostConfig":{"NetworkMode":"overlay"},
	"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8000"}],"9/sctp":null},"Networks":{
	"bridge":{"Aliases":null,"NetworkID":"n0","EndpointID":"e0","IPAddress":"172.17.0.2","DNSNames":null},
	"overlay":{"Aliases":["www","db"],"NetworkID":"n1","EndpointID":"e1","IPAddress":"10.32.0.3","DNSNames":["web","www","db","c0ffee000000","h1"]}}}}`,
}

func TestTheNamesOfAContainer(t *testing.T) {
	want := netmap.EndpointName{
		Name: "web", Aliases: []string{"db", "www"}, Hostname: "h1", Short: "c0ffee000000", App: "/web/site", Unhealthy: true,
		Services: []netmap.Service{{Port: 80, Protocol: netmap.TCP}, {Port: 8080, Protocol: netmap.TCP}, {Port: 53, Protocol: netmap.UDP}, {Port: 9, Protocol: netmap.SCTP}},
	}
	for version, answer := range inspected {
		t.Run(version, func(t *testing.T) {
			f := newFake(t, version)
			f.answers["GET /containers/c/json"] = answer
			f.start()
			c, err := f.open().Container(t.Context(), "c")
			if err != nil {
				t.Fatal(err)
			}
			if metadata := map[string]string{"SERVICE_NAME": "web", "SERVICE_TAGS": "a,b"}; c.Image != "acme/web:1" || !maps.Equal(c.Metadata, metadata) {
				t.Errorf("image %q, metadata %q", c.Image, c.Metadata)
			}
			if got := c.Names["e1"]; !reflect.DeepEqual(got, want) || c.First != "e1" || len(c.Names) != 2 {
				t.Errorf("got %+v, first %s of %d\nwant %+v, first e1 of 2", got, c.First, len(c.Names), want)
			}
		})
	}
}

func TestAContainerThatDoesNotRunHasNoNames(t *testing.T) {
	f := newFake(t, "1.41")
	f.answers["GET /containers/c/json"] = `{"Id":"c0ffee000000","Name":"/web","State":{"Running":false},"Config":{},"NetworkSettings":{"Networks":{"overlay":{"EndpointID":"e1"}}}}`
	f.answers["GET /containers/broken/json"] = `500 {"message":"no disk"}`
	f.answers["GET /containers/json"] = `[{"Id":"c1"},{"Id":"c2"}]`
	f.start()
	d := f.open()
	for _, id := range []string{"c", "gone"} {
		if c, err := d.Container(t.Context(), id); err != nil || len(c.Names) > 0 {
			t.Errorf("container %s: %+v, %v", id, c, err)
		}
	}
	if _, err := d.Container(t.Context(), "broken"); err == nil {
		t.Error("an answer of 500 is no error")
	}
	f.answers["GET /networks/n1"] = `{"Name":"overlay","Id":"n1","Containers":{"c0ffee":{"Name":"web","EndpointID":"e1","IPv4Address":"10.32.0.3/20"}}}`
	if endpoint, name, err := d.Connected(t.Context(), "n1", "c0ffee"); endpoint != "e1" || name != "web" || err != nil {
		t.Errorf("endpoint %q of %q, %v", endpoint, name, err)
	}
	if endpoint, _, err := d.Connected(t.Context(), "n1", "other"); endpoint != "" || err != nil {
		t.Errorf("endpoint %q of a container that is not there, %v", endpoint, err)
	}
	if all, err := d.Running(t.Context()); err != nil || !slices.Equal(all, []string{"c1", "c2"}) {
		t.Errorf("running: %v, %v", all, err)
	}
}
