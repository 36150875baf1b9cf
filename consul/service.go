package consul

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// Container is what its services are made of.
type Container struct {
	Endpoint netmap.EndpointID // on the network whose address is registered
	Name     string            // Docker's
	Short    string            // the first 12 digits of its id
	App      string            // MARATHON_APP_ID
	Image    string            // as it was named to Docker
	V4, V6   netip.Addr
	Ports    []netmap.Service
	Metadata map[string]string // its environment and labels whose names begin with SERVICE_
}

// Service is what the API of a Consul agent takes as a registration.
type Service struct {
	ID              string
	Name            string
	Tags            []string
	Address         string
	Port            uint16
	TaggedAddresses map[string]TaggedAddress `json:",omitempty"`
	Meta            map[string]string
	Check           *Check `json:",omitempty"`
}

// TaggedAddress is the address of one family, for a service that has both. Consul's DNS answers A
// and AAAA with them.
type TaggedAddress struct {
	Address string
	Port    uint16
}

// Check is a health check that the Consul agent does.
type Check struct {
	HTTP          string   `json:",omitempty"`
	Method        string   `json:",omitempty"`
	TCP           string   `json:",omitempty"`
	GRPC          string   `json:",omitempty"`
	GRPCUseTLS    bool     `json:",omitempty"`
	TLSSkipVerify bool     `json:",omitempty"`
	Args          []string `json:",omitempty"`
	TTL           string   `json:",omitempty"`
	Interval      string   `json:",omitempty"`
	Timeout       string   `json:",omitempty"`
	Status        string   `json:",omitempty"`

	DeregisterCriticalServiceAfter string `json:",omitempty"`
}

// Names that Weft has in the Meta of its services.
const (
	metaContainer = "weft-container" // Docker's name of the container
	metaDigest    = "weft-digest"    // of everything that was registered
)

// serviceID names a port of an endpoint in Consul. It has no colon: registrator's -cleanup
// deregisters what looks like host:container:port.
func serviceID(host netmap.HostID, endpoint netmap.EndpointID, port netmap.Service) string {
	return idPrefix + host.String() + "-" + shortened(endpoint) + "-" + strconv.Itoa(int(port.Port)) + "-" + port.Protocol.String()
}

const idPrefix = "weft-"

func shortened(id netmap.EndpointID) string { return string(id[:min(12, len(id))]) }

// splitID returns whose endpoint a service is that Weft made; others are not ok.
func splitID(id string) (host netmap.HostID, endpoint string, ok bool) {
	rest, ok := strings.CutPrefix(id, idPrefix)
	parts := strings.Split(rest, "-")
	if !ok || len(parts) != 4 {
		return host, "", false
	}
	host, err := netmap.ParseID(parts[0])
	return host, parts[1], err == nil
}

// services returns what a host registers for a container, by registrator's rules and that of
// Marathon's app ids.
func services(host netmap.HostID, c Container) (out []Service) {
	addr := c.V4
	if !addr.IsValid() {
		addr = c.V6
	}
	if !addr.IsValid() {
		return nil
	}
	for _, port := range c.Ports {
		meta, ofPort := metadataOf(c.Metadata, port.Port)
		if meta["ignore"] != "" {
			continue
		}
		at := netip.AddrPortFrom(addr, port.Port)
		name, tag := nameOf(c, port.Port, meta["name"], ofPort["name"])
		s := Service{
			ID: serviceID(host, c.Endpoint, port), Name: name, Address: addr.String(), Port: port.Port,
			Tags: append(append([]string{}, tag...), tags(meta["tags"])...), Meta: map[string]string{},
		}
		if port.Protocol != netmap.TCP {
			s.Tags = append(s.Tags, port.Protocol.String())
		}
		if c.V4.IsValid() && c.V6.IsValid() {
			s.TaggedAddresses = map[string]TaggedAddress{"lan_ipv4": {c.V4.String(), port.Port}, "lan_ipv6": {c.V6.String(), port.Port}}
		}
		s.Check = checkOf(c, at, meta)
		maps.DeleteFunc(meta, func(key, _ string) bool {
			return slices.Contains([]string{"name", "tags", "id", "ignore"}, key) || strings.HasPrefix(key, "check_")
		})
		maps.Copy(s.Meta, meta)
		s.Meta[metaContainer] = c.Name
		s.Meta[metaDigest] = digest(s)
		out = append(out, s)
	}
	return out
}

// metadataOf returns the metadata of a port by lower-case keys without SERVICE_, and which of
// them are this port's alone: SERVICE_80_NAME wins over SERVICE_NAME.
func metadataOf(all map[string]string, port uint16) (meta map[string]string, ofPort map[string]bool) {
	meta, ofPort = map[string]string{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		key := strings.ToLower(strings.TrimPrefix(name, "SERVICE_"))
		number, rest, long := strings.Cut(key, "_")
		if n, err := strconv.Atoi(number); err == nil && long {
			if n == int(port) {
				meta[rest], ofPort[rest] = all[name], true
			}
		} else if !ofPort[key] {
			meta[key] = all[name]
		}
	}
	return meta, ofPort
}

// nameOf returns the name of a service, and the tag that says the rest of a Marathon app id: the
// service of /web/customer1/site1 is web with the tag site1.customer1.
func nameOf(c Container, port uint16, given string, ofPort bool) (name string, tags []string) {
	app := strings.FieldsFunc(c.App, func(r rune) bool { return r == '/' })
	switch {
	case given != "":
		name = given
	case len(app) > 0:
		rest := app[1:]
		slices.Reverse(rest)
		if len(rest) > 0 {
			tags = append(tags, strings.Join(rest, "."))
		}
		return app[0], tags
	default:
		name, _, _ = strings.Cut(path.Base(c.Image), ":")
		name, _, _ = strings.Cut(name, "@")
	}
	if len(c.Ports) > 1 && !ofPort {
		name += "-" + strconv.Itoa(int(port))
	}
	return name, nil
}

// tags splits a list at its commas but those after a backslash. The last one comes first, as
// with registrator: who takes the first tag of a service finds the same one.
func tags(list string) (out []string) {
	const comma = "\x00" // in no environment
	for tag := range strings.SplitSeq(strings.ReplaceAll(list, `\,`, comma), ",") {
		if tag != "" {
			out = append(out, strings.ReplaceAll(tag, comma, ","))
		}
	}
	slices.Reverse(out)
	return out
}

// defaultInterval is how often a check is done that does not say it.
const defaultInterval = "10s"

// checkOf returns the check that the metadata of a service asks for; the first kind in
// registrator's order.
func checkOf(c Container, at netip.AddrPort, meta map[string]string) *Check {
	check := &Check{
		Status: meta["check_initial_status"], Interval: meta["check_interval"], Timeout: meta["check_timeout"],
		DeregisterCriticalServiceAfter: meta["check_deregister_after"],
	}
	if check.Interval == "" {
		check.Interval = defaultInterval
	}
	insecure := meta["check_tls_skip_verify"] != ""
	switch {
	case meta["check_http"] != "":
		check.HTTP, check.Method = "http://"+at.String()+meta["check_http"], meta["check_http_method"]
	case meta["check_https"] != "":
		check.HTTP, check.Method, check.TLSSkipVerify = "https://"+at.String()+meta["check_https"], meta["check_https_method"], insecure
	case meta["check_cmd"] != "":
		check.Args = []string{"check-cmd", c.Short, strconv.Itoa(int(at.Port())), meta["check_cmd"]}
	case meta["check_script"] != "":
		values := strings.NewReplacer("$SERVICE_IP", at.Addr().String(), "$SERVICE_PORT", strconv.Itoa(int(at.Port())))
		check.Args = []string{"sh", "-c", values.Replace(meta["check_script"])}
	case meta["check_ttl"] != "":
		check.TTL, check.Interval, check.Timeout = meta["check_ttl"], "", ""
	case meta["check_tcp"] != "":
		check.TCP = at.String()
	case meta["check_grpc"] != "":
		check.GRPC, check.GRPCUseTLS = at.String(), meta["check_grpc_use_tls"] != ""
		check.TLSSkipVerify = insecure && check.GRPCUseTLS
	default:
		return nil
	}
	return check
}

// digest stands for everything of a service: Consul tells neither all of it, nor as it was given.
func digest(s Service) string {
	text, _ := json.Marshal(s) // of strings and numbers; maps are sorted
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
