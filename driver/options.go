package driver

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// Keys of Docker's in the options of CreateNetwork.
const (
	genericKey   = "com.docker.network.generic"
	internalKey  = "com.docker.network.internal"
	driverMTUKey = "com.docker.network.driver.mtu"
)

// optionPrefix is that of our own options; an unknown one is an error, because a
// misspelt option that is ignored is found out in production.
const optionPrefix = "weft."

// NetworkRequest is what a user asked for with `docker network create`.
type NetworkRequest struct {
	Docker    string                // Docker's id
	Subnets   []netip.Prefix        // v4 first
	Aux       map[string]netip.Addr // --aux-address by name
	Name      string                // weft.network; empty = the subnets name the network
	Block     string                // weft.block as given, such as /24; empty = whatever the subnet has
	VNI       netmap.VNI            // weft.vni; 0 = the ledger chooses
	MTU       int                   // weft.mtu, bytes; 0 = from the underlay
	Multicast bool
	Internal  bool
	Options   map[string]string // all -o options, for replicas
}

// knownOptions maps every option of ours to the code that reads it.
var knownOptions = map[string]func(*NetworkRequest, string) error{
	"weft.network": func(r *NetworkRequest, v string) error {
		if v == "" || len(v) > 64 || strings.ContainsAny(v, " .\t\n") {
			return fmt.Errorf("want a name of at most 64 characters without dots and blanks")
		}
		r.Name = v
		return nil
	},
	"weft.block": func(r *NetworkRequest, v string) error {
		r.Block = v // the room that cuts blocks reads it
		return nil
	},
	"weft.vni": func(r *NetworkRequest, v string) error {
		vni, err := strconv.ParseUint(v, 10, 24)
		if err != nil || vni == 0 {
			return fmt.Errorf("want a number from 1 to %d", 1<<24-1)
		}
		r.VNI = netmap.VNI(vni)
		return nil
	},
	"weft.mtu":   readMTU,
	driverMTUKey: readMTU,
	"weft.multicast": func(r *NetworkRequest, v string) error {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("want true or false")
		}
		r.Multicast = on
		return nil
	},
	"weft.host": func(_ *NetworkRequest, v string) error {
		if on, err := strconv.ParseBool(v); err != nil || on {
			return fmt.Errorf("hosts have no address on networks in this version, want false")
		}
		return nil
	},
}

func readMTU(r *NetworkRequest, v string) error {
	mtu, err := strconv.Atoi(v)
	if err != nil || mtu < 576 || mtu > 65535 {
		return fmt.Errorf("want bytes from 576 to 65535")
	}
	r.MTU = mtu
	return nil
}

// parseNetwork reads a whole CreateNetwork request.
func parseNetwork(req createNetworkRequest) (NetworkRequest, error) {
	out := NetworkRequest{Docker: req.NetworkID, Multicast: true, Aux: map[string]netip.Addr{}}
	if err := readOptions(&out, req.Options); err != nil {
		return NetworkRequest{}, err
	}
	for _, d := range slices.Concat(req.IPv4Data, req.IPv6Data) {
		if err := readPool(&out, d); err != nil {
			return NetworkRequest{}, err
		}
	}
	if len(out.Subnets) == 0 {
		return NetworkRequest{}, bad("network %s has no subnet of Weft's: create it with --ipam-driver weftnet/weft:latest", short(req.NetworkID))
	}
	return out, nil
}

func readOptions(out *NetworkRequest, options map[string]json.RawMessage) error {
	if raw, ok := options[internalKey]; ok {
		if err := json.Unmarshal(raw, &out.Internal); err != nil {
			return bad("option %s is %s, want true or false", internalKey, raw)
		}
	}
	raw, ok := options[genericKey]
	if !ok || string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, &out.Options); err != nil {
		return bad("option %s is %.80s, want an object of strings", genericKey, raw)
	}
	for _, key := range slices.Sorted(maps.Keys(out.Options)) {
		read, known := knownOptions[key]
		if !known && strings.HasPrefix(key, optionPrefix) {
			return bad("option %s is not known, want one of %s", key, strings.Join(ownOptions(), ", "))
		}
		if !known {
			continue // Docker's own and other people's: not ours to judge
		}
		if err := read(out, out.Options[key]); err != nil {
			return bad("option %s=%s: %v", key, out.Options[key], err)
		}
	}
	return nil
}

func ownOptions() []string {
	own := slices.Sorted(maps.Keys(knownOptions))
	return slices.DeleteFunc(own, func(k string) bool { return !strings.HasPrefix(k, optionPrefix) })
}

func readPool(out *NetworkRequest, d ipamData) error {
	pool, err := netip.ParsePrefix(d.Pool)
	if err != nil {
		return bad("pool %q is no CIDR", d.Pool)
	}
	if d.AddressSpace != rpc.AddressSpace {
		return bad("pool %s comes from the IPAM driver of address space %q; Weft needs its own: add --ipam-driver weftnet/weft:latest", pool, d.AddressSpace)
	}
	out.Subnets = append(out.Subnets, pool.Masked())
	for name, text := range d.AuxAddresses {
		aux, err := netip.ParsePrefix(text)
		if err != nil {
			return bad("auxiliary address %s=%q is no CIDR", name, text)
		}
		out.Aux[name] = aux.Addr()
	}
	return nil
}

func bad(format string, args ...any) error {
	return &rpc.BadRequest{Text: fmt.Sprintf(format, args...)}
}

// short is an id as Docker's tables show it.
func short(id string) string { return id[:min(12, len(id))] }
