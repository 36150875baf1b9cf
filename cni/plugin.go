package cni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/netns"
)

// Name is the plugin's type in a network configuration, and the file name under which weft is a CNI plugin.
const Name = "weft-cni"

// Called reports whether this process is a CNI plugin: by its own name, or by what a runtime sets.
func Called() bool {
	return filepath.Base(os.Args[0]) == Name || os.Getenv("CNI_COMMAND") != "" && len(os.Args) == 1
}

// callTimeout bounds one call. The agent answers sooner with a reason.
const callTimeout = 20 * time.Second

// Run carries out the call that the environment and standard input have, prints the answer, and returns the exit code.
func Run(ctx context.Context, release string) int {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	bind := func(call func(context.Context, *config, *skel.CmdArgs) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			c, err := parse(args.StdinData)
			if err == nil {
				err = call(ctx, c, args)
			}
			return coded(err)
		}
	}
	failed := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: bind(add), Del: bind(del), Check: bind(check), GC: bind(collect), Status: bind(status),
	}, version.All, fmt.Sprintf("%s %s: Weft as a CNI plugin, which a container runtime calls; https://www.cni.dev", Name, release))
	if failed == nil {
		return 0
	}
	_ = failed.Print() // to standard output, where the runtime reads it
	return 1
}

// Own error codes, from 100 on, are in the order of their kinds.
var codes = map[netmap.RefusalKind]uint{
	netmap.Unknown: types.ErrInvalidNetworkConfig, netmap.BadInput: types.ErrInvalidNetworkConfig, netmap.Outside: types.ErrInvalidNetworkConfig,
	netmap.NoQuorum: types.ErrTryAgainLater, netmap.Busy: types.ErrTryAgainLater,
	netmap.Exhausted: 100, netmap.Held: 101, netmap.Conflict: 102, netmap.Fenced: 103, netmap.Removed: 104, netmap.Outdated: 105,
}

// coded gives an error the code by which a runtime decides whether to try again.
func coded(err error) error {
	var refused *netmap.Refusal
	var already *types.Error
	switch {
	case err == nil || errors.As(err, &already):
		return err
	case errors.Is(err, api.ErrNoAgent), errors.Is(err, context.DeadlineExceeded):
		return types.NewError(types.ErrTryAgainLater, err.Error(), "")
	case errors.As(err, &refused) && codes[refused.Kind] != 0:
		return types.NewError(codes[refused.Kind], err.Error(), "")
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}

// add gives a container an endpoint. What fails leaves nothing behind, and a runtime may repeat it.
func add(ctx context.Context, c *config, args *skel.CmdArgs) error {
	result, err := resultBefore(c)
	if err != nil {
		return err
	}
	want, err := c.wanted(args)
	if err != nil {
		return err
	}
	ns, err := openNamespace(args.Netns)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if err := vacant(ns, args.IfName); err != nil {
		return err
	}
	id := endpointID(c.Name, args.ContainerID, args.IfName)
	got, err := c.agent().AttachEndpoint(ctx, api.AttachRequest{
		Owner: netmap.OwnerCNI, Network: c.network(), Endpoint: id, Container: c.containerName(args), Addrs: want,
		Sandbox: args.Netns, Interface: args.IfName,
	})
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout/2)
		defer cancel()
		_, errDetach := c.agent().DetachEndpoint(ctx, api.DetachRequest{Owner: netmap.OwnerCNI, Endpoint: id})
		if errors.Is(errDetach, api.ErrNoAgent) {
			errDetach = nil // the first error says so; the runtime's DEL or GC follows
		}
		return errors.Join(err, errDetach)
	}
	result.Interfaces = append(result.Interfaces, &current.Interface{
		Name: args.IfName, Mac: net.HardwareAddr(got.MAC[:]).String(), Mtu: got.MTU, Sandbox: args.Netns,
	})
	at := len(result.Interfaces) - 1
	for _, p := range got.Addrs {
		result.IPs = append(result.IPs, &current.IPConfig{
			Interface: &at, Address: net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		})
	}
	if got.DNS.IsValid() && len(result.DNS.Nameservers) == 0 {
		result.DNS.Nameservers = []string{got.DNS.String()}
	}
	return types.PrintResult(result, c.CNIVersion)
}

// resultBefore is the result of the plugin before in a chain, empty where this one is the first.
func resultBefore(c *config) (*current.Result, error) {
	if c.RawPrevResult == nil {
		return &current.Result{CNIVersion: current.ImplementedSpecVersion, DNS: c.DNS}, nil
	}
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "prevResult cannot be read", err.Error())
	}
	return current.NewResultFromResult(c.PrevResult)
}

// del takes a container's endpoint away. It succeeds where there is none, so a runtime may repeat it. Without an agent
// it fails: the address would stay taken, and nobody would know.
func del(ctx context.Context, c *config, args *skel.CmdArgs) error {
	_, err := c.agent().DetachEndpoint(ctx, api.DetachRequest{Owner: netmap.OwnerCNI, Endpoint: endpointID(c.Name, args.ContainerID, args.IfName)})
	return err
}

// check compares a container with the result of its ADD, and with what the agent has.
func check(ctx context.Context, c *config, args *skel.CmdArgs) error {
	if c.RawPrevResult == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "CHECK needs the result of ADD as prevResult", "")
	}
	result, err := resultBefore(c)
	if err != nil {
		return err
	}
	mine, err := endpoints(ctx, c)
	if err != nil {
		return err
	}
	id := endpointID(c.Name, args.ContainerID, args.IfName)
	i := slices.IndexFunc(mine, func(e api.Endpoint) bool { return e.ID == id })
	if i < 0 {
		return types.NewError(types.ErrUnknownContainer, fmt.Sprintf("the agent of this host has no endpoint of container %q on network %q: remove it and add it again", args.ContainerID, c.network()), "")
	}
	ns, err := openNamespace(args.Netns)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	var addrs []net.IPNet
	for _, ip := range result.IPs {
		if at := ip.Interface; at != nil && *at >= 0 && *at < len(result.Interfaces) && result.Interfaces[*at].Name == args.IfName && result.Interfaces[*at].Sandbox != "" {
			addrs = append(addrs, ip.Address)
		}
	}
	return present(ns, args.IfName, mine[i], addrs)
}

// collect removes the endpoints of this configuration that the runtime does not name as valid.
func collect(ctx context.Context, c *config, _ *skel.CmdArgs) error {
	mine, err := endpoints(ctx, c)
	if err != nil {
		return err
	}
	valid := map[netmap.EndpointID]bool{}
	for _, a := range c.ValidAttachments {
		valid[endpointID(c.Name, a.ContainerID, a.IfName)] = true
	}
	for _, e := range mine {
		if !valid[e.ID] && strings.HasSuffix(string(e.ID), ofConfiguration(c.Name)) {
			_, errDetach := c.agent().DetachEndpoint(ctx, api.DetachRequest{Owner: netmap.OwnerCNI, Endpoint: e.ID})
			err = errors.Join(err, errDetach)
		}
	}
	return err
}

// endpoints are those of this host, on all networks and of all owners.
func endpoints(ctx context.Context, c *config) ([]api.Endpoint, error) {
	report, err := c.agent().Report(ctx)
	if err != nil {
		return nil, err
	}
	var out []api.Endpoint
	for _, n := range report.Networks {
		for _, e := range n.Endpoints {
			if e.Host == report.Self {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// errNotAvailable is STATUS's code for: ADD cannot be served.
const errNotAvailable = 50

// status fails while an ADD would.
func status(ctx context.Context, c *config, _ *skel.CmdArgs) error {
	report, err := c.agent().Report(ctx)
	switch {
	case err != nil:
		return types.NewError(errNotAvailable, err.Error(), "")
	case report.NotReady != "":
		return types.NewError(errNotAvailable, report.NotReady, "")
	}
	if !slices.ContainsFunc(report.Networks, func(n api.Network) bool {
		return !n.Retired && (n.Name == c.network() || fmt.Sprint(n.ID) == c.network())
	}) {
		return types.NewError(errNotAvailable, fmt.Sprintf("no network of the cluster is called %q: docker network create -d weftnet/weft --ipam-driver weftnet/weft %s makes it on any host, weft status lists those that exist", c.network(), c.network()), "")
	}
	return nil
}

// openNamespace opens a container's namespace.
func openNamespace(path string) (*netns.Namespace, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("CNI_NETNS=%q cannot be opened", path), err.Error())
	}
	return ns, nil
}
