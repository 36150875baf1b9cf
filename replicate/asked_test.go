package replicate

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

// askedDocker counts how often its networks are asked for.
type askedDocker struct {
	Docker
	asked int
}

func (d *askedDocker) Watch(ctx context.Context) <-chan dockerapi.Event {
	events := make(chan dockerapi.Event)
	context.AfterFunc(ctx, func() { close(events) })
	return events
}

func (d *askedDocker) Networks(context.Context) ([]dockerapi.Network, error) {
	d.asked++
	return []dockerapi.Network{{Name: dockerapi.GatewayNetwork}}, nil
}

type emptyDriver struct{ Driver }

func (emptyDriver) Networks() []attach.NetworkRecord   { return nil }
func (emptyDriver) Endpoints() []attach.EndpointRecord { return nil }

type emptyDisk struct{ Disk }

func (emptyDisk) Load() (map[string][]byte, error) { return nil, nil }

// changingFacts are facts that a test changes.
type changingFacts struct {
	m       *netmap.Map
	changed chan struct{}
}

func (f changingFacts) Synced() bool       { return true }
func (f changingFacts) View() *netmap.View { return f.m.View() }

func (f changingFacts) Subscribe() (facts, rest <-chan struct{}, cancel func()) {
	return f.changed, nil, func() {}
}

func (f changingFacts) change(t *testing.T, origin netmap.ID, key netmap.Key, value any) {
	if _, err := f.m.Append(origin, 1, []netmap.Change{{Key: key, Value: value}}); err != nil {
		t.Fatal(err)
	}
	turn.Poke(f.changed)
	synctest.Wait()
}

// TestDockerIsAskedWhenNetworksChange, not for each container of the cluster.
func TestDockerIsAskedWhenNetworksChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster, host := netmap.ClusterID{1}, netmap.HostID{2}
		docker, facts := &askedDocker{}, changingFacts{netmap.NewMap(cluster), make(chan struct{}, 1)}
		r, err := Open(Config{
			Docker: docker, Driver: emptyDriver{}, Facts: facts, Disk: emptyDisk{}, Problem: func(string, string) {}, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go r.Run(ctx)
		defer cancel()
		asks := func(when string, want int) {
			t.Helper()
			if synctest.Wait(); docker.asked != want {
				t.Errorf("%s Docker was asked %d times, want %d", when, docker.asked, want)
			}
			docker.asked = 0
		}
		asks("at first", 1)
		e := netmap.Endpoint{ID: "a", Network: 5, Name: "web"}
		for key, value := range e.Facts() {
			facts.change(t, host, key, value)
		}
		asks("after a container on another host", 0)
		facts.change(t, cluster, netmap.NetworkKey(5), netmap.Network{ID: 5})
		asks("after a new network", 1)
		facts.change(t, host, netmap.HostFactKey(host), netmap.HostFact{Name: "b"})
		asks("after a host said who it is", 1)
		time.Sleep(lookEvery)
		asks("when it was due", 1)
	})
}
