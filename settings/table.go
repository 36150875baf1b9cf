package settings

import (
	"slices"
	"strings"

	"github.com/weftnet/weft/discover"
)

// Prefix starts the name of every setting in the environment.
const Prefix = "WEFT_"

// Setting is one row of the table.
type Setting struct {
	Env     string // name in the environment and in config.json
	Default string // as an operator would write it
	Meaning string // one line, for --help, config.json and docs/settings.md
	Wants   string // what a value looks like; errors end in it
	Type    string // of the value, in one word, for --help

	Secret bool // its value appears in no message
	Hidden bool // set by packaging, not by operators

	parse func(*Settings, string) error
}

// Flag is the name of the flag of "weft agent", without dashes.
func (s Setting) Flag() string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s.Env, Prefix)), "_", "-")
}

// Table lists all settings in the order in which they are shown.
func Table() []Setting { return slices.Clone(table) }

var table = []Setting{
	{
		Env:     "WEFT_JOIN",
		Meaning: "peers to join, comma separated, looked up again and again; empty = found a cluster",
		Wants:   discover.Wants + ", comma separated",
		Type:    "peers",
		parse:   parseJoin,
	},
	{
		Env: "WEFT_EXPECT", Default: "0",
		Meaning: "found the cluster together when this many hosts see each other, the same number and WEFT_JOIN on all; agents = as many as the Mesos masters in WEFT_JOIN list; 0 = join, or found alone without WEFT_JOIN",
		Wants:   "a number of hosts 0-1000, or agents",
		Type:    "hosts",
		parse:   parseExpect,
	},
	{
		Env: "WEFT_RANGE", Default: "10.32.0.0/12",
		Meaning: "ranges for networks without --subnet, IPv4 and IPv6, comma separated; the first founder decides",
		Wants:   "unicast prefixes like 10.32.0.0/12 or fd00:32::/48, /8 to /24 or /16 to /64, comma separated, not overlapping",
		Type:    "prefixes",
		parse:   parseRanges,
	},
	{
		Env:     "WEFT_ADVERTISE",
		Meaning: "underlay address, or the interface or prefix to pick it from; empty = source address of the default route",
		Wants:   "an address like 192.0.2.7, a prefix like 192.0.2.0/24, or an interface like eth0",
		Type:    "address",
		parse:   parseAdvertise,
	},
	{
		Env: "WEFT_PORT", Default: "7950",
		Meaning: "tcp and udp port for gossip, ledger and requests between hosts",
		Wants:   wantsPort,
		Type:    "port",
		parse:   port(func(s *Settings, p uint16) { s.Port = p }),
	},
	{
		Env: "WEFT_VXLAN_PORT", Default: "4789",
		Meaning: "udp port for packets between containers, the same on every host",
		Wants:   wantsPort,
		Type:    "port",
		parse:   port(func(s *Settings, p uint16) { s.VXLANPort = p }),
	},
	{
		Env:     "WEFT_SECRET",
		Meaning: "secret of the cluster, or file:/path of one: hosts without it are not listened to, what hosts tell each other is encrypted; a list, in which none stands for hosts without one, while it is exchanged; empty or none = whoever reaches WEFT_PORT can join",
		Wants:   "file:/path, none, or a text of 16 characters or more (openssl rand -hex 16); several comma separated",
		Type:    "secret",
		Secret:  true,
		parse:   parseSecret,
	},
	{
		Env:     "WEFT_NAME",
		Meaning: "display name of this host; empty = hostname",
		Wants:   "1-64 letters, digits, dots, dashes or underscores",
		Type:    "name",
		parse:   parseName,
	},
	{
		Env: "WEFT_REPLICATE", Default: "true",
		Meaning: "a network created on one host appears on every host",
		Wants:   "true or false",
		Type:    "bool",
		parse:   boolean(func(s *Settings, on bool) { s.Replicate = on }),
	},
	{
		Env:     "WEFT_MEMBER_OF",
		Meaning: "networks that this host takes part in without containers, comma separated, or all; on those of its containers it is anyway",
		Wants:   wantsNetworks,
		Type:    "networks",
		parse:   parseMemberOf,
	},
	{
		Env: "WEFT_MTU", Default: "0",
		Meaning: "largest packet of containers, bytes; 0 = the underlay's less the encapsulation",
		Wants:   "0 or a number of bytes 1280-65485",
		Type:    "bytes",
		parse:   parseMTU,
	},
	{
		Env: "WEFT_DNS", Default: "true",
		Meaning: "containers find those of all hosts by name; false = Docker's own names of this host only",
		Wants:   "true or false",
		Type:    "bool",
		parse:   boolean(func(s *Settings, on bool) { s.DNS.On = on }),
	},
	{
		Env: "WEFT_DOMAIN", Default: "weft.local",
		Meaning: "DNS domain of the cluster, the same on every host",
		Wants:   "a DNS name like weft.local",
		Type:    "name",
		parse:   parseDomain,
	},
	{
		Env: "WEFT_DNS_TTL", Default: "5s",
		Meaning: "how long clients may keep an answer about a container",
		Wants:   "whole seconds from 0s to 1h, like 5s",
		Type:    "duration",
		parse:   parseTTL,
	},
	{
		Env: "WEFT_DNS_PREFER", Default: "any",
		Meaning: "order of the addresses of a name that several containers have: by chance, or those of the asking host first",
		Wants:   "any or local",
		Type:    "order",
		parse:   oneOf(func(s *Settings, v string) { s.DNS.PreferLocal = v == "local" }, "any", "local"),
	},
	{
		Env: "WEFT_DNS_HEALTH", Default: "false",
		Meaning: "a container whose health check fails is left out of the answer while another one has the name",
		Wants:   "true or false",
		Type:    "bool",
		parse:   boolean(func(s *Settings, on bool) { s.DNS.Health = on }),
	},
	{
		Env: "WEFT_DNS_MARATHON", Default: "true",
		Meaning: "a container is found by its MARATHON_APP_ID: /web/site as site.web and site-web",
		Wants:   "true or false",
		Type:    "bool",
		parse:   boolean(func(s *Settings, on bool) { s.DNS.Marathon = on }),
	},
	{
		Env:     "WEFT_DNS_ZONES",
		Meaning: "zones that other DNS servers answer for containers, asked from the host; port 53 unless another is given",
		Wants:   wantsZones,
		Type:    "zones",
		parse:   parseZones,
	},
	{
		Env:     "WEFT_DNS_LISTEN",
		Meaning: "address at which the host itself can ask for names of the cluster; empty = off",
		Wants:   wantsListen,
		Type:    "address:port",
		parse:   parseListen,
	},
	{
		Env:     "WEFT_CONSUL",
		Meaning: "Consul agent of this host in which its containers' ports are registered as services; empty = off",
		Wants:   wantsConsul,
		Type:    "URL",
		parse:   parseConsul,
	},
	{
		Env:     "WEFT_OVERLAYS",
		Meaning: "overlay file of a DC/OS master: each overlay in it becomes a network; empty = none",
		Wants:   wantsPathOrNone,
		Type:    "file",
		parse:   pathOrNone(func(s *Settings, p string) { s.Overlays.File = p }),
	},
	{
		Env:     "WEFT_CNI_DIR",
		Meaning: "directory in which each overlay of WEFT_OVERLAYS gets a CNI configuration; empty = none",
		Wants:   wantsPathOrNone,
		Type:    "directory",
		parse:   pathOrNone(func(s *Settings, p string) { s.Overlays.CNIDir = p }),
	},
	{
		Env: "WEFT_OVERLAYS_ADMIN", Default: "false",
		Meaning: "POST /overlay-master/agents/delete at WEFT_STATUS removes hosts, as weft host rm does",
		Wants:   "true or false",
		Type:    "bool",
		parse:   boolean(func(s *Settings, on bool) { s.Overlays.Admin = on }),
	},
	{
		Env: "WEFT_REMOVE_AFTER", Default: "72h",
		Meaning: "how long after its lease of 24 hours an unreachable host is removed for good; 0 = by operators only",
		Wants:   "0 or a time like 72h",
		Type:    "duration",
		parse:   parseRemoveAfter,
	},
	{
		Env: "WEFT_STATUS", Default: "127.0.0.1:7951",
		Meaning: "loopback address of the HTTP server that has GET /status and GET /health; empty = off",
		Wants:   "a loopback address with a port like 127.0.0.1:7951 or [::1]:7951, or empty",
		Type:    "address:port",
		parse:   parseStatus,
	},
	{
		Env: "WEFT_STATE", Default: "/var/lib/weft",
		Meaning: "directory for identity, allocations and ledger",
		Wants:   wantsPath,
		Type:    "directory",
		parse:   path(func(s *Settings, p string) { s.State = p }),
	},
	{
		Env: "WEFT_LOG_LEVEL", Default: "info",
		Meaning: "least severe message that is logged",
		Wants:   "debug, info, warn or error",
		Type:    "level",
		parse:   oneOf(func(s *Settings, v string) { s.LogLevel = v }, "debug", "info", "warn", "error"),
	},
	{
		Env: "WEFT_LOG_FORMAT", Default: "text",
		Meaning: "form of the log",
		Wants:   "text or json",
		Type:    "format",
		parse:   oneOf(func(s *Settings, v string) { s.LogFormat = v }, "text", "json"),
	},
	{
		Env:     "WEFT_ROOT",
		Meaning: "where the host's root directory is seen; /host inside the managed plugin",
		Wants:   wantsPathOrNone,
		Type:    "directory",
		Hidden:  true,
		parse:   pathOrNone(func(s *Settings, p string) { s.Root = p }),
	},
}
