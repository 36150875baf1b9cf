package consul

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/consul/consultest"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// TestContainersComeAndGo: a container answers by its names as soon as Docker has told it, and not
// any more when it has ended. What others registered stays, and what is equal is not registered again.
func TestContainersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.consul.Put(consultest.Service{ID: "db", Name: "db", Address: "192.0.2.9"})
		w.consul.Put(consultest.Service{ID: "host:c9:80", Name: "nginx", Address: "10.32.0.9"})
		r, _ := w.agent(self, url)
		w.run(1, web, nil, r)
		w.run(2, web, nil, r)
		w.run(3, netmap.EndpointName{Services: tcp(80)}, []string{"SERVICE_IGNORE=1"}, r)
		within(time.Millisecond)
		w.answers("site1.customer1.web", "10.32.0.1 10.32.0.2")
		w.answers("web", "10.32.0.1 10.32.0.2")
		if n := len(w.consul.Requests()); n != 2 {
			t.Errorf("%d requests for two services", n)
		}
		w.stop(1)
		within(time.Millisecond)
		w.answers("web", "10.32.0.2")
		within(time.Minute)
		if all := w.consul.Requests(); len(all) != 1 || len(w.consul.Services()) != 3 || w.problem() != "" {
			t.Errorf("requests %q, services %v, problem %q", all, w.consul.Services(), w.problem())
		}
	})
}

// TestConsulLosesItsServices when it is restarted, and has them again soon.
func TestConsulLosesItsServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		r, _ := w.agent(self, url)
		w.run(1, web, nil, r)
		within(time.Millisecond)
		w.consul.Restart()
		within(every + time.Millisecond)
		w.answers("web", "10.32.0.1")
	})
}

// TestTheAgentIsKilled: what runs goes on answering, also while Docker has not told anything yet,
// and what ended meanwhile goes when the agent is back.
func TestTheAgentIsKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		r, kill := w.agent(self, url)
		w.run(1, web, nil, r)
		w.run(2, web, nil, r)
		within(time.Millisecond)
		kill()
		w.answers("web", "10.32.0.1 10.32.0.2")
		w.stop(2)
		r, _ = w.agent(self, url)
		within(time.Minute) // Docker says nothing
		w.answers("web", "10.32.0.1")
		w.consul.Requests()
		w.run(1, web, nil, r)
		within(time.Minute)
		w.answers("web", "10.32.0.1")
		if all := w.consul.Requests(); len(all) != 0 {
			t.Errorf("a container that is as before was registered again: %q", all)
		}
	})
}

// TestDeadHosts: a host that was removed from the cluster and had the same Consul agent, and this one
// under the identity that it had before.
func TestDeadHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		dead, alive := serviceID(other, endpoint, tcp(80)[0]), serviceID(netmap.HostID{0xcc}, endpoint, tcp(80)[0])
		for _, id := range []string{dead, alive} {
			w.consul.Put(consultest.Service{ID: id, Name: "web", Address: "10.32.0.99"})
		}
		r, kill := w.agent(netmap.HostID{0xdd}, url)
		w.run(1, web, nil, r)
		within(time.Millisecond)
		kill()
		r, _ = w.agent(self, url)
		w.run(1, web, nil, r)
		within(time.Millisecond)
		w.mu.Lock()
		w.removed = []netmap.HostID{other}
		w.mu.Unlock()
		within(every + time.Millisecond)
		var hosts []string
		for id := range w.consul.Services() {
			host, _, _ := splitID(id)
			hosts = append(hosts, host.Short())
		}
		slices.Sort(hosts)
		if want := []string{"aa010000", "cc000000"}; !slices.Equal(hosts, want) {
			t.Errorf("services of %q, want of %q", hosts, want)
		}
	})
}

// TestAnotherConsul: with another address, or none, nothing stays where it was.
func TestAnotherConsul(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		second := consultest.New("")
		w.serve("127.0.0.1:8510", second)
		r, kill := w.agent(self, url)
		w.run(1, web, nil, r)
		within(time.Millisecond)
		kill()
		r, kill = w.agent(self, "http://127.0.0.1:8510")
		w.run(1, web, nil, r)
		within(time.Millisecond)
		if len(w.consul.Services()) > 0 || len(second.Services()) != 1 {
			t.Errorf("%d services in the first, %d in the second", len(w.consul.Services()), len(second.Services()))
		}
		kill()
		second.Break(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		w.agent(self, "")
		within(time.Minute)
		second.Break(nil)
		within(time.Minute)
		if len(second.Services()) > 0 || len(w.disk) > 0 {
			t.Errorf("turned off: %d services, on disk %q", len(second.Services()), w.disk)
		}

		w.disk[keyOf(self, "http://127.0.0.1:1")] = nil
		w.agent(self, "")
		within(patience - time.Second)
		if len(w.disk) != 1 {
			t.Error("it gave up too early")
		}
		within(time.Minute)
		if !strings.Contains(w.log.String(), "stay in Consul") || !strings.Contains(w.log.String(), "consul services deregister") || len(w.disk) > 0 {
			t.Errorf("a Consul that is gone for good: on disk %q, the log says %q", w.disk, w.log.String())
		}
	})
}

// TestTheSwitchFromRegistrator, as docs/from-registrator.md has it: after each step every container
// answers, and each address once. Registrator's -cleanup would not take a service of Weft.
func TestTheSwitchFromRegistrator(t *testing.T) {
	registratorsOwn := regexp.MustCompile(`^(.+?):([a-zA-Z0-9][a-zA-Z0-9_.-]+):[0-9]+(?::udp)?$`) // serviceIDPattern of its bridge.go
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		named := []string{"SERVICE_NAME=shop", "SERVICE_TAGS=a"}
		ports := netmap.EndpointName{App: "/shop/eu", Services: tcp(8080)}
		w.run(1, ports, nil)
		w.run(2, ports, nil)
		for n := 1; n <= 2; n++ {
			w.consul.Put(consultest.Service{ID: fmt.Sprintf("host:c%d:8080", n), Name: "shop", Tags: []string{"a"}, Address: fmt.Sprintf("10.32.0.%d", n)})
		}
		step := func() {
			t.Helper()
			within(time.Minute)
			w.answers("shop", "10.32.0.1 10.32.0.2")
			w.answers("a.shop", "10.32.0.1 10.32.0.2")
		}
		step()
		r, _ := w.agent(self, url) // registrator still runs
		w.run(1, ports, named, r)
		w.run(2, ports, named, r)
		step()
		for id := range w.consul.Services() {
			if ours := strings.HasPrefix(id, idPrefix); ours == registratorsOwn.MatchString(id) {
				t.Errorf("registrator would take %s for its own: %v", id, ours)
			}
		}
		w.consul.Remove("host:c1:8080") // it is stopped, and what it left is removed
		step()
		w.consul.Remove("host:c2:8080")
		step()
		w.stop(1)
		within(time.Millisecond)
		w.answers("shop", "10.32.0.2")
	})
}

// TestTwoNetworks: a container is registered once, with the address on the network of its --network;
// when it leaves that, with the other.
func TestTwoNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		r, _ := w.agent(self, url)
		w.run(1, web, nil)
		w.run(2, web, nil)
		c := dockerapi.Container{Names: map[netmap.EndpointID]netmap.EndpointName{}, Image: "nginx"}
		for id, e := range w.on {
			c.Names[id] = *e.Names
			if e.V4.String() == "10.32.0.2" {
				c.First = id
			}
		}
		within(time.Millisecond)
		w.answers("web", "") // nobody knows the image and the settings yet
		r.Told(c)
		within(time.Millisecond)
		w.answers("web", "10.32.0.2")
		w.stop(2)
		within(time.Millisecond)
		w.answers("web", "10.32.0.1")
	})
}
