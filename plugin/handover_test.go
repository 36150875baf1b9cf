package plugin_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/underlay/lossy"
)

// pair is two agents of one cluster in real time, on a network of their own. The second one
// serves Docker.
type pair struct {
	t            *testing.T
	net          *lossy.Net
	one          *plugin.Agent
	root, socket string // of the second one
}

// pairOf starts both. The second one ends well with the test.
func pairOf(t *testing.T) pair {
	t.Helper()
	net := lossy.New(1, lossy.Link{})
	config := func(n byte, state, root string, join ...string) plugin.Config {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, n})
		return plugin.Config{
			Settings: settings.Settings{
				Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}, Port: 7950, VXLANPort: 4789,
				Name: "host-" + string('0'+n), State: state, Root: root, Join: join,
			},
			Version: "test", Kernel: plugintest.NewKernel(addr, 1500), Log: slog.New(slog.DiscardHandler), Network: net.Host(addr),
		}
	}
	p := pair{t: t, net: net, root: ground(t)}
	p.socket = filepath.Join(p.root, "plugin", "weft.sock")
	var err error
	if p.one, err = plugin.Open(config(1, t.TempDir(), "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.one.Close() })
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- plugin.Run(ctx, config(2, "/var/lib/weft", p.root, "192.0.2.1:7950"), p.socket) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	awaitReady(t, p.root, p.socket)
	return p
}

// self is who the second one is, or nothing while its socket is opened anew.
func (p pair) self() string {
	r, err := api.At(filepath.Join(p.root, api.SocketPath)).Report(within(p.t, 5*time.Second))
	if err != nil {
		return ""
	}
	return r.Self.String()
}

// ask makes a call of Docker's, which must not fail.
func (p pair) ask(method, body string) string {
	p.t.Helper()
	got, err := post(within(p.t, 10*time.Second), p.socket, method, body)
	if err != nil || strings.Contains(got, `"Err"`) {
		p.t.Fatalf("%s: %v %s", method, err, got)
	}
	return got
}

// network creates one as Docker does, and returns the id of its pool.
func (p pair) network() string {
	p.t.Helper()
	var pool struct{ PoolID string }
	if err := json.Unmarshal([]byte(p.ask("IpamDriver.RequestPool", `{"AddressSpace":"weft","Pool":"10.40.0.0/24"}`)), &pool); err != nil {
		p.t.Fatal(err)
	}
	p.ask("IpamDriver.RequestAddress", `{"PoolID":"`+pool.PoolID+`","Options":{"RequestAddressType":"com.docker.network.gateway"}}`)
	p.ask("NetworkDriver.CreateNetwork", `{"NetworkID":"`+strings.Repeat("a", 64)+`","Options":{"com.docker.network.generic":{}},`+
		`"IPv4Data":[{"AddressSpace":"weft","Pool":"10.40.0.0/24","Gateway":"10.40.0.1/24"}],"IPv6Data":[]}`)
	return pool.PoolID
}

// takeAndGiveBack asks for an address and gives it back.
func (p pair) takeAndGiveBack(pool string) {
	p.t.Helper()
	var got struct{ Address string }
	if err := json.Unmarshal([]byte(p.ask("IpamDriver.RequestAddress", `{"PoolID":"`+pool+`"}`)), &got); err != nil {
		p.t.Fatal(err)
	}
	p.ask("IpamDriver.ReleaseAddress", `{"PoolID":"`+pool+`","Address":"`+got.Address+`"}`)
}

// TestNoCallFailsWhenAHostBecomesAnother: a machine was removed while it was off, or cut off as here. Dockerd starts its
// containers as soon as the plugin answers, and tries only once, so calls wait while the host gets a
// new identity.
func TestNoCallFailsWhenAHostBecomesAnother(t *testing.T) {
	p := pairOf(t)
	former, pool := p.self(), p.network()
	removed := make(chan error, 1)
	calls := 0
	for limit := within(t, 30*time.Second); ; calls++ {
		if limit.Err() != nil {
			t.Fatal("the host stays what it is")
		}
		p.takeAndGiveBack(pool)
		if calls == 3 {
			p.net.Split(netip.MustParseAddr("192.0.2.2"))
			go func() {
				defer p.net.HealAll()
				_, err := p.one.RemoveHost(context.Background(), api.Removal{Host: former, IsOff: true})
				removed <- err
			}()
		}
		if now := p.self(); calls > 3 && now != "" && now != former {
			break
		}
		runtime.Gosched()
	}
	if err := <-removed; err != nil {
		t.Error(err)
	}
	p.ask("IpamDriver.RequestAddress", `{"PoolID":"`+pool+`"}`)
	t.Logf("%d calls", calls)
}
