package driver

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	api "github.com/docker/go-plugins-helpers/network"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/rpc"
)

// Keys of Docker's in the options of CreateNetwork.
const (
	genericKey   = "com.docker.network.generic"
	internalKey  = "com.docker.network.internal"
	driverMTUKey = "com.docker.network.driver.mtu"
	encryptedKey = "encrypted"
)

// optionPrefix is the prefix of Weft's options. An unknown option with this prefix is an error,
// so that a misspelt one is not silently ignored.
const optionPrefix = "weft."

// replicaOption is set by agents on the networks that they create in Docker. Its value is a
// NetworkID.
const replicaOption = optionPrefix + "replica"

// knownOptions maps every option that Weft reads to the function that parses its value.
var knownOptions = map[string]func(*attach.NetworkRequest, string) error{
	"weft.network": func(r *attach.NetworkRequest, v string) error {
		if !networkName.MatchString(v) {
			return errors.New("want a name of at most 63 letters, digits, - and _ that begins with a letter or digit")
		}
		r.Name = v
		return nil
	},
	"weft.block": func(r *attach.NetworkRequest, v string) error {
		if !strings.HasPrefix(v, "/") {
			return errors.New("want a prefix length such as /24")
		}
		r.Block = v // the package that cuts blocks reads the rest
		return nil
	},
	"weft.vni": func(r *attach.NetworkRequest, v string) error {
		vni, err := strconv.ParseUint(v, 10, 24)
		if err != nil || vni == 0 {
			return fmt.Errorf("want a number from 1 to %d", 1<<24-1)
		}
		r.VNI = netmap.VNI(vni)
		return nil
	},
	"weft.mtu":   readMTU,
	driverMTUKey: readMTU,
	encryptedKey: func(*attach.NetworkRequest, string) error { // of Docker's overlay
		return errors.New("payload is not encrypted in this version; leave it out")
	},
	"weft.multicast": func(r *attach.NetworkRequest, v string) error {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return errors.New("want true or false")
		}
		r.Multicast = on
		return nil
	},
	replicaOption: func(r *attach.NetworkRequest, v string) error {
		id, err := strconv.ParseUint(v, 10, 64)
		if err != nil || id == 0 {
			return errors.New("want the number of a network; agents give it to networks that they make, leave it out")
		}
		r.Replica = netmap.NetworkID(id)
		return nil
	},
	"weft.host": func(r *attach.NetworkRequest, v string) error {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return errors.New("want true or false")
		}
		r.Host = on
		return nil
	},
}

func readMTU(r *attach.NetworkRequest, v string) error {
	mtu, err := strconv.Atoi(v)
	switch {
	case err != nil || mtu < 576 || mtu > 65535:
		return errors.New("want bytes from 576 to 65535")
	case r.MTU != 0 && r.MTU != mtu:
		return fmt.Errorf("another option says %d; give one of them", r.MTU)
	}
	r.MTU = mtu
	return nil
}

// networkName matches the names that Docker allows, except those with dots, which separate a
// container's name from its network in DNS, and those longer than a DNS label (RFC 1035 §2.3.4).
var networkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// swarmID matches the ids of swarm's objects (swarmkit's identity.NewID). All other networks
// have ids of 64 hexadecimal digits.
var swarmID = regexp.MustCompile(`^[0-9a-z]{25}$`)

// parseNetwork reads a whole CreateNetwork request.
func parseNetwork(req createNetworkRequest) (attach.NetworkRequest, error) {
	if req.NetworkID == "" {
		return attach.NetworkRequest{}, bad("NetworkID is empty")
	}
	out := attach.NetworkRequest{ID: req.NetworkID, Multicast: true, Host: true}
	if err := readOptions(&out, req.Options); err != nil {
		return attach.NetworkRequest{}, err
	}
	for _, d := range req.IPv4Data {
		if err := readPool(&out, d, netip.Addr.Is4); err != nil {
			return attach.NetworkRequest{}, err
		}
	}
	for _, d := range req.IPv6Data {
		if err := readPool(&out, d, isSix); err != nil {
			return attach.NetworkRequest{}, err
		}
	}
	if len(out.Subnets) == 0 {
		return attach.NetworkRequest{}, bad("network %s has no subnet of Weft's: create it with --ipam-driver weftnet/weft:latest", short(req.NetworkID))
	}
	return out, nil
}

func readOptions(out *attach.NetworkRequest, options map[string]json.RawMessage) error {
	if raw, ok := options[internalKey]; ok {
		if err := json.Unmarshal(raw, &out.Internal); err != nil || string(raw) == "null" {
			return bad("option %s is %.80s, want true or false", internalKey, raw)
		}
	}
	raw, ok := options[genericKey]
	if !ok || string(raw) == "null" {
		return nil
	}
	var given map[string]string
	if err := json.Unmarshal(raw, &given); err != nil {
		return bad("option %s is %.80s, want an object of strings", genericKey, raw)
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		read, known := knownOptions[key]
		if !known && strings.HasPrefix(key, optionPrefix) {
			return bad("option %.80s is not known, want one of %s", key, strings.Join(ownOptions(), ", "))
		}
		if !known {
			continue // Docker's own and other people's: not ours to judge
		}
		if err := read(out, given[key]); err != nil {
			return bad("option %s=%.80s: %v", key, given[key], err)
		}
	}
	return nil
}

// ownOptions returns Weft's options that a user may set.
func ownOptions() []string {
	own := slices.Sorted(maps.Keys(knownOptions))
	return slices.DeleteFunc(own, func(k string) bool { return !strings.HasPrefix(k, optionPrefix) || k == replicaOption })
}

func readPool(out *attach.NetworkRequest, d *api.IPAMData, family func(netip.Addr) bool) error {
	if d == nil {
		return bad("a pool is null")
	}
	pool, err := netip.ParsePrefix(d.Pool)
	if err != nil || !family(pool.Addr()) {
		return bad("pool %.80q is no subnet of the field's family", d.Pool)
	}
	pool = pool.Masked()
	if d.AddressSpace != rpc.AddressSpace {
		return bad("pool %s comes from the IPAM driver of address space %.80q; Weft needs its own: add --ipam-driver weftnet/weft:latest", pool, d.AddressSpace)
	}
	for _, s := range out.Subnets {
		if s.Addr().Is4() == pool.Addr().Is4() {
			return bad("a network has at most one IPv4 and one IPv6 subnet, and this one asks for %s and %s, whose containers would not reach each other; give one larger --subnet, or create a network for each and connect containers to both (docker network connect)", s, pool)
		}
	}
	for name, value := range d.AuxAddresses {
		text, _ := value.(string)
		aux, err := netip.ParsePrefix(text)
		if err != nil || !pool.Contains(aux.Addr()) {
			return bad("auxiliary address %.80s=%.80q is not in pool %s", name, fmt.Sprint(value), pool)
		}
	}
	out.Subnets = append(out.Subnets, pool)
	return nil
}

func bad(format string, args ...any) error {
	return &rpc.BadRequest{Text: fmt.Sprintf(format, args...)}
}

// short is an id as Docker's tables show it.
func short(id string) string { return id[:min(12, len(id))] }
