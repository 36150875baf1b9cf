package scale_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/plugin/plugintest"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/store"
	"github.com/weftnet/weft/underlay"
)

// stage is a process with two hosts: itself, an agent in this process that founds the cluster
// and has the facts of all invented hosts, and the agent that is measured.
type stage struct {
	*testing.T
	hosts, endpoints int
	window           time.Duration // of what is averaged

	peer    *plugin.Agent
	gossip  *crowded
	port    *underlay.Port
	network netmap.NetworkID
	cluster netmap.ClusterID
	said    int // endpoints that the peer announced

	pid    int
	docker *plugintest.Engine // of the measured agent
	id     string             // its network
}

var (
	peerAddr  = netip.MustParseAddr("198.18.0.1")
	agentAddr = netip.MustParseAddr("198.19.255.254")
)

// vtep is the address of an invented host: nobody is there.
func vtep(n int) netip.Addr {
	at := binary.BigEndian.AppendUint32(nil, 198<<24|18<<16+1<<8+uint32(n))
	return netip.AddrFrom4([4]byte(at))
}

func hostID(n int) netmap.HostID { return netmap.HostID{byte(n), byte(n >> 8), 15: 1} }

func newStage(t *testing.T, binary string, hosts, endpoints int, window time.Duration) *stage {
	s := &stage{T: t, hosts: hosts, endpoints: endpoints, window: window}
	s.ok(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	s.ok(unix.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	s.ok(os.MkdirAll("/run/docker/plugins", 0o755))
	other := s.wire()
	dir := scratch(t)
	s.found(dir)
	s.invent(dir)
	s.launch(binary, dir, other)
	return s
}

func (s *stage) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// until waits for what nobody tells about.
func (s *stage) until(what string, limit time.Duration, done func() bool) time.Duration {
	s.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if done() {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			s.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// wire makes the measured agent's network namespace and a veth pair into it.
func (s *stage) wire() *netns.Namespace {
	other, err := netns.New()
	s.ok(err)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "peer", MTU: 1500}, PeerName: "eth0", PeerNamespace: netlink.NsFd(other.Fd())}
	s.ok(netlink.LinkAdd(veth))
	up := func(name string, addr netip.Addr) error {
		link, err := netlink.LinkByName(name)
		if err == nil && addr.IsValid() {
			err = netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(15, 32)}})
		}
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		return err
	}
	s.ok(up("lo", netip.Addr{}))
	s.ok(up("peer", peerAddr))
	s.ok(other.Do(func() error { return up("lo", netip.Addr{}) }))
	s.ok(other.Do(func() error { return up("eth0", agentAddr) }))
	return other
}

// open opens the peer's agent on its directory.
func (s *stage) open(dir string) {
	var err error
	s.peer, err = plugin.Open(plugin.Config{
		Settings: settings.Settings{
			Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}, Port: 7950, VXLANPort: 4789, Name: "peer", State: filepath.Join(dir, "peer"),
		},
		Version: "scale", Kernel: forgetful{plugintest.NewKernel(peerAddr, 1500)}, Log: slog.New(slog.DiscardHandler), Volatile: filepath.Join(dir, "peer.run"),
		Deps: plugin.Deps{
			Gossip: func(cfg gossip.Config) (plugin.Gossip, error) {
				g, err := gossip.Start(cfg)
				s.gossip = &crowded{Gossip: g}
				return s.gossip, err
			},
			Port: func(cfg underlay.Config) (plugin.Port, error) {
				p, err := underlay.Open(cfg)
				s.port = p
				return p, err
			},
		},
	})
	s.ok(err)
	s.until("the peer is ready", time.Minute, func() bool { return s.peer.Report().State == "ready" })
}

// ask asks the ledger as another host does.
func (s *stage) ask(cmd state.Command) {
	s.Helper()
	cmd.Cluster, cmd.Start, cmd.Nonce = s.cluster, 1, 1
	body, err := state.EncodeCommand(cmd)
	s.ok(err)
	_, err = s.port.Call(s.Context(), netip.AddrPortFrom(peerAddr, 7950), "ledger.do", body)
	s.ok(err)
}

// found founds the cluster, makes the network and has the ledger admit all invented hosts.
func (s *stage) found(dir string) {
	s.open(dir)
	s.cluster = s.peer.Report().Cluster
	for n := 1; n <= s.hosts; n++ {
		s.ask(state.Command{Kind: state.KindAdmit, Host: hostID(n), Admit: &state.Admit{Name: fmt.Sprintf("host-%d", n), Addr: netip.AddrPortFrom(peerAddr, 7950)}}) // from where it asks
	}
	docker := plugintest.NewEngine("peer")
	docker.Serve(plugintest.Plugin{Handler: serverOf(s.peer)})
	_, err := docker.CreateNetwork(s.Context(), web)
	s.ok(err)
	s.network = s.gossip.View().Networks[0].ID
}

// invent puts what the invented hosts announced onto the peer's disk, as if it had known them
// before its last restart.
func (s *stage) invent(dir string) {
	s.ok(s.peer.Close())
	facts, logs := netmap.NewMap(s.cluster), map[string][]byte{}
	for n := 1; n <= s.hosts; n++ {
		changes := []netmap.Change{{Key: netmap.HostFactKey(hostID(n)), Value: netmap.HostFact{
			Name: fmt.Sprintf("host-%d", n), Underlay: netip.AddrPortFrom(vtep(n), 7950), MTU: 1500, Version: "scale",
		}}}
		for key, value := range inventedOf(s.network, n, 0, s.endpoints) {
			changes = append(changes, netmap.Change{Key: key, Value: value})
		}
		_, err := facts.Append(hostID(n), 1, changes)
		s.ok(err)
		logs["log/"+hostID(n).String()] = facts.MarshalCache(hostID(n))
	}
	disk, err := store.Open(filepath.Join(dir, "peer"))
	s.ok(err)
	s.ok(disk.Bucket("gossip").Commit(logs))
	s.ok(disk.Close())
	s.open(dir)
	if n := known(s.gossip.View(), 1<<30); n != s.hosts*s.endpoints {
		s.Fatalf("the peer knows %d endpoints, want %d", n, s.hosts*s.endpoints)
	}
}

// launch starts the agent that is measured, in its namespace.
func (s *stage) launch(binary, dir string, in *netns.Namespace) {
	cmd := exec.Command(binary, "agent")
	cmd.Env = []string{
		"WEFT_JOIN=" + peerAddr.String(), "WEFT_ADVERTISE=" + agentAddr.String(), "WEFT_NAME=measured", "WEFT_REPLICATE=false",
		"WEFT_STATE=" + filepath.Join(dir, "measured"), "WEFT_STATUS=", "WEFT_LOG_LEVEL=warn",
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() { // its thread stays, as the death of the thread that forked it would kill the agent
		err := in.Do(func() error {
			err := cmd.Start()
			started <- err
			<-s.Context().Done()
			return err
		})
		_ = err // it was told
	}()
	s.ok(<-started)
	s.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s.pid = cmd.Process.Pid
	agent := api.At(api.SocketPath)
	s.until("the agent is ready", time.Minute, func() bool {
		r, err := agent.Report(s.Context())
		return err == nil && r.State == "ready"
	})
	s.docker = plugintest.NewEngine("measured")
	s.docker.Serve(plugintest.Plugin{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "plugin" },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", plugin.SocketPath)
		}},
	}})
}
