package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
)

// DefaultDir is the state directory of a lab that names none.
const DefaultDir = "/tmp/weft-lab"

// maxHosts keeps host numbers below the switch's own address in a /24.
const maxHosts = 200

// Config says what lab to bring up. The zero value of every field but Hosts is usable.
type Config struct {
	// Hosts is how many hosts to bring up, numbered from 1.
	Hosts int
	// Dir is the state directory: disks, logs and the record. Empty means DefaultDir.
	// Labs with different directories share nothing.
	Dir string
	// MTU of the underlay in bytes; 0 means 1500.
	MTU int
	// Underlay4 is the hosts' IPv4 network, invalid means 10.99.0.0/24: host N has
	// address N in it and the switch, the default gateway, 254.
	Underlay4 netip.Prefix
	// Underlay6 is the hosts' IPv6 network, invalid means fd99::/64: host N has
	// address N in it and the switch ffff.
	Underlay6 netip.Prefix
	// Engine names the programs of another Docker Engine than the machine's own.
	Engine Engine
	// DockerArgs are further arguments of every host's dockerd.
	DockerArgs []string
	// NoDocker brings up hosts without an engine: namespaces and underlay only.
	NoDocker bool
	// Probe is the path of a static probe program to put into the images. Empty means
	// to build it with the Go tool from the module of the working directory.
	Probe string
	// Log receives a line per step, without a newline; nil means silence. It is
	// called from several goroutines at once.
	Log func(line string)
}

// Engine names the programs of a Docker Engine by path. An empty field is looked up
// on the machine.
type Engine struct {
	Dockerd    string
	Containerd string
	CLI        string
	// Path is put before the hosts' PATH: there containerd finds its shim and runc.
	Path string
}

// EngineIn is the engine whose programs lie in a directory laid out like a root file
// system, as scripts/engine.sh makes one.
func EngineIn(root string) Engine {
	bin, sbin := filepath.Join(root, "usr/bin"), filepath.Join(root, "usr/sbin")
	return Engine{
		Dockerd: filepath.Join(sbin, "dockerd"), Containerd: filepath.Join(bin, "containerd"),
		CLI: filepath.Join(bin, "docker"), Path: sbin + ":" + bin,
	}
}

func (c Config) withDefaults() (Config, error) {
	if c.Hosts < 1 || c.Hosts > maxHosts {
		return c, fmt.Errorf("lab: %d hosts asked for, it can have 1 to %d", c.Hosts, maxHosts)
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.MTU < 1280 || c.MTU > 65535 {
		return c, fmt.Errorf("lab: underlay MTU %d, it can be 1280 (the least for IPv6) to 65535", c.MTU)
	}
	if !c.Underlay4.IsValid() {
		c.Underlay4 = netip.MustParsePrefix("10.99.0.0/24")
	}
	if !c.Underlay6.IsValid() {
		c.Underlay6 = netip.MustParsePrefix("fd99::/64")
	}
	if !c.Underlay4.Addr().Is4() || c.Underlay4.Bits() > 24 {
		return c, fmt.Errorf("lab: IPv4 underlay %s, it must be an IPv4 network of /24 or larger", c.Underlay4)
	}
	if !c.Underlay6.Addr().Is6() || c.Underlay6.Bits() > 112 {
		return c, fmt.Errorf("lab: IPv6 underlay %s, it must be an IPv6 network of /112 or larger", c.Underlay6)
	}
	c.Underlay4, c.Underlay6 = c.Underlay4.Masked(), c.Underlay6.Masked()
	if c.Log == nil {
		c.Log = func(string) {}
	}
	return c.withDir()
}

func (c Config) withDir() (Config, error) {
	if c.Dir == "" {
		c.Dir = DefaultDir
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("lab: state directory %s: %w", c.Dir, err)
	}
	c.Dir = dir
	for _, hidden := range []string{"/run", "/var/run", "/var/lib", "/etc", "/proc", "/sys"} {
		if rel, err := filepath.Rel(hidden, dir); err == nil && filepath.IsLocal(rel) {
			return c, fmt.Errorf("lab: state directory %s lies in %s, which every host has its own of; choose one elsewhere", dir, hidden)
		}
	}
	return c, nil
}

// hostAddrs are the underlay addresses of host n, with the prefix lengths of the underlay.
func hostAddrs(c Config, n int) (v4, v6 netip.Prefix) {
	return nth(c.Underlay4, n), nth(c.Underlay6, n)
}

// switchAddrs are the addresses of the switch, the hosts' default gateway.
func switchAddrs(c Config) (v4, v6 netip.Prefix) {
	return nth(c.Underlay4, 254), nth(c.Underlay6, 0xffff)
}

// nth is address n (below 65536) of a network whose last 16 bits, or 8 for a /24, are free.
func nth(p netip.Prefix, n int) netip.Prefix {
	b := p.Addr().AsSlice()
	last := len(b) - 1
	b[last] |= byte(n)
	b[last-1] |= byte(n >> 8)
	addr, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(addr, p.Bits())
}

func hostName(n int) string { return fmt.Sprintf("host%d", n) }

var errNotUp = errors.New("the lab is not up here; bring it up with `lab up`")
