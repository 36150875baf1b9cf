package cni

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"regexp"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

// config is a network configuration, as the runtime passes it on standard input.
type config struct {
	types.PluginConf

	Network string `json:"network"` // of Weft, by its name or number; the configuration's own name where it is empty
	Socket  string `json:"socket"`  // of the agent; before WEFT_SOCKET and api.SocketPath

	RuntimeConfig struct {
		IPs []string `json:"ips"` // that the container wants, with a prefix length or without
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs    []string `json:"ips"`
			Labels []label  `json:"labels"`
		} `json:"cni"`
		Mesos struct {
			NetworkInfo struct {
				IPAddresses []struct {
					IPAddress string `json:"ip_address"`
				} `json:"ip_addresses"`
				Labels struct {
					Labels []label `json:"labels"`
				} `json:"labels"`
			} `json:"network_info"`
		} `json:"org.apache.mesos"`
	} `json:"args"`
}

type label struct{ Key, Value string }

// arguments are those of CNI_ARGS that this plugin knows.
type arguments struct {
	types.CommonArgs
	IP           types.UnmarshallableString
	K8S_POD_NAME types.UnmarshallableString //nolint:revive // what Kubernetes' runtimes and podman call it
}

// ipamType is the only value that ipam.type may have. Mesos up to 1.11 refuses a configuration whose ipam has none.
const ipamType = Name

func parse(raw []byte) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "the network configuration on standard input is not what weft-cni reads", err.Error())
	}
	if c.IPAM.Type != "" && c.IPAM.Type != ipamType {
		return nil, types.NewError(types.ErrInvalidNetworkConfig,
			fmt.Sprintf("ipam.type is %q, but Weft's addresses are the cluster's and cannot come from another plugin: leave ipam out of network %q", c.IPAM.Type, c.Name), "")
	}
	return c, nil
}

// network is the name or number of Weft's network.
func (c *config) network() string { return cmp.Or(c.Network, c.Name) }

func (c *config) agent() api.Client {
	return api.At(cmp.Or(c.Socket, os.Getenv("WEFT_SOCKET"), api.SocketPath))
}

// wanted are the addresses that the container asks for: by the runtime's capability, by the arguments that the CNI
// conventions name, and by Mesos' NetworkInfo. https://www.cni.dev/docs/conventions/
func (c *config) wanted(args *skel.CmdArgs) ([]netip.Addr, error) {
	all := append(c.RuntimeConfig.IPs, c.Args.CNI.IPs...)
	for _, a := range c.Args.Mesos.NetworkInfo.IPAddresses {
		if a.IPAddress != "" { // it may name a protocol only
			all = append(all, a.IPAddress)
		}
	}
	env, err := argumentsOf(args)
	if err != nil {
		return nil, err
	}
	if env.IP != "" {
		all = append(all, string(env.IP))
	}
	var out []netip.Addr
	for _, s := range all {
		addr, err := netip.ParseAddr(s)
		if p, errP := netip.ParsePrefix(s); err != nil && errP == nil {
			addr, err = p.Addr(), nil
		}
		if err != nil {
			return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("the container asks for the address %q, which is none", s), "")
		}
		out = append(out, addr)
	}
	return out, nil
}

// endpointID is what the agent calls a container's interface: a hash, since a runtime's ids have any form. Its end is a
// hash of the configuration's name, so that GC finds the endpoints of one configuration among the host's.
func endpointID(configuration, container, ifname string) netmap.EndpointID {
	return netmap.EndpointID(fmt.Sprintf("%x", sha256.Sum256([]byte(container+"/"+ifname)))[:48] + ofConfiguration(configuration))
}

func ofConfiguration(name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%x", sum[:8])
}

// nameChars are those that a container's name may have in Weft, which are Docker's.
var nameChars = regexp.MustCompile(`[^a-zA-Z0-9_.-]+`)

// containerName is the name that the container has in weft status and in DNS: the label "name", the name that the runtime
// passes in CNI_ARGS, or its id.
func (c *config) containerName(args *skel.CmdArgs) string {
	name := args.ContainerID
	if env, err := argumentsOf(args); err == nil && env.K8S_POD_NAME != "" {
		name = string(env.K8S_POD_NAME)
	}
	for _, l := range append(c.Args.CNI.Labels, c.Args.Mesos.NetworkInfo.Labels.Labels...) {
		if l.Key == "name" && l.Value != "" {
			name = l.Value
		}
	}
	return nameChars.ReplaceAllString(name, "-")
}

func argumentsOf(args *skel.CmdArgs) (*arguments, error) {
	env := &arguments{CommonArgs: types.CommonArgs{IgnoreUnknown: true}} // Kubernetes' runtimes pass much else
	if err := types.LoadArgs(args.Args, env); err != nil {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS cannot be read", err.Error())
	}
	return env, nil
}
