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

// TestNoCallFailsWhenAHostBecomesAnother: dockerd starts the containers of a machine
// that was removed while it was off as soon as the plugin is there, and tries once.
func TestNoCallFailsWhenAHostBecomesAnother(t *testing.T) {
	net, root := lossy.New(1, lossy.Link{}), ground(t)
	socket := filepath.Join(root, "plugin", "weft.sock")
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
	one, err := plugin.Open(config(1, t.TempDir(), ""))
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plugin.Run(ctx, config(2, "/var/lib/weft", root, "192.0.2.1:7950"), socket) }()
	awaitReady(t, root, socket)
	self := func() string {
		r, err := api.At(filepath.Join(root, api.SocketPath)).Report(within(t, 5*time.Second))
		if err != nil {
			return "" // its window is opened anew
		}
		return r.Self.String()
	}
	former := self()
	ask := func(method, body string) string {
		got, err := post(within(t, 10*time.Second), socket, method, body)
		if err != nil || strings.Contains(got, `"Err"`) {
			t.Fatalf("%s: %v %s", method, err, got)
		}
		return got
	}
	var pool struct{ PoolID string }
	if err := json.Unmarshal([]byte(ask("IpamDriver.RequestPool", `{"AddressSpace":"weft","Pool":"10.40.0.0/24"}`)), &pool); err != nil {
		t.Fatal(err)
	}
	ask("IpamDriver.RequestAddress", `{"PoolID":"`+pool.PoolID+`","Options":{"RequestAddressType":"com.docker.network.gateway"}}`)
	ask("NetworkDriver.CreateNetwork", `{"NetworkID":"`+strings.Repeat("a", 64)+`","Options":{"com.docker.network.generic":{}},`+
		`"IPv4Data":[{"AddressSpace":"weft","Pool":"10.40.0.0/24","Gateway":"10.40.0.1/24"}],"IPv6Data":[]}`)
	removed := make(chan error, 1)
	calls := 0
	for limit := within(t, 30*time.Second); ; calls++ {
		if limit.Err() != nil {
			t.Fatal("the host stays what it is")
		}
		var got struct{ Address string }
		if err := json.Unmarshal([]byte(ask("IpamDriver.RequestAddress", `{"PoolID":"`+pool.PoolID+`"}`)), &got); err != nil {
			t.Fatal(err)
		}
		ask("IpamDriver.ReleaseAddress", `{"PoolID":"`+pool.PoolID+`","Address":"`+got.Address+`"}`)
		if calls == 3 {
			go func() {
				_, err := one.RemoveHost(context.Background(), api.Removal{Host: former, IsOff: true})
				removed <- err
			}()
		}
		if now := self(); calls > 3 && now != "" && now != former {
			break
		}
		runtime.Gosched()
	}
	if err := <-removed; err != nil {
		t.Error(err)
	}
	ask("IpamDriver.RequestAddress", `{"PoolID":"`+pool.PoolID+`"}`)
	t.Logf("%d calls", calls)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
