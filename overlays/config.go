package overlays

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of an overlay file.
const (
	MaxFile     = 64 << 10 // bytes
	maxOverlays = 32       // what a host says about each has to fit into a fact
	maxName     = 13       // with the modules' "m-" in front, the length of a device's name
)

// Config is the NetworkConfig of DC/OS' overlay.proto.
type Config struct {
	VTEPSubnet  string    `json:"vtep_subnet"`
	VTEPMACOUI  string    `json:"vtep_mac_oui"`
	Overlays    []Overlay `json:"overlays"`
	VTEPSubnet6 string    `json:"vtep_subnet6,omitempty"`
	VTEPMTU     uint32    `json:"vtep_mtu,omitempty"`

	Ignored []string `json:"-"` // keys of the file that mean nothing on Weft

	vtep, vtep6 netip.Prefix // the latter is zero where there is none
	oui         [3]byte
}

// Overlay is an OverlayInfo of overlay.proto.
type Overlay struct {
	Name    string `json:"name"`
	Subnet  string `json:"subnet,omitempty"`
	Prefix  int    `json:"prefix,omitempty"` // length of an agent's part of the subnet
	Subnet6 string `json:"subnet6,omitempty"`
	Prefix6 int    `json:"prefix6,omitempty"`
	Enabled bool   `json:"enabled"`

	v4, v6 netip.Prefix // masked; zero where there is none
}

// UnmarshalJSON implements json.Unmarshaler: an overlay that does not say so is enabled.
func (o *Overlay) UnmarshalJSON(raw []byte) error {
	type plain Overlay
	p := plain{Enabled: true}
	err := json.Unmarshal(raw, &p)
	*o = Overlay(p)
	return err
}

// subnets are those of an overlay, IPv4 first.
func (o Overlay) subnets() (out []netip.Prefix) {
	for _, p := range []netip.Prefix{o.v4, o.v6} {
		if p.IsValid() {
			out = append(out, p)
		}
	}
	return out
}

// block is the length of an agent's part of one of the subnets.
func (o Overlay) block(subnet netip.Prefix) int {
	if subnet.Addr().Is4() {
		return o.Prefix
	}
	return o.Prefix6
}

// Parse reads an overlay file: NetworkConfig alone, or the master's configuration, which has it as "network". What it
// refuses the master module refused too, with the same message; only what no network of Weft can be is refused besides.
func Parse(raw []byte) (*Config, error) {
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("the file has more than %d bytes", MaxFile)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, theirs("JSON parse failed: %w", err)
	}
	c := &Config{}
	if network, ok := keys["network"]; ok {
		raw = network
		for _, key := range []string{"replicated_log_dir", "replicated_log_timeout", "zk"} {
			if _, ok := keys[key]; ok {
				c.Ignored = append(c.Ignored, key)
			}
		}
	}
	if err := json.Unmarshal(bytes.TrimSpace(raw), c); err != nil {
		return nil, theirs("Protobuf parse failed: %w", err)
	}
	return c, c.check()
}

// check refuses what createManagerProcess of the master module refuses, in its order.
func (c *Config) check() (err error) {
	if missing := c.missing(); len(missing) > 0 {
		return theirs("Protobuf parse failed: Missing required fields: %s", strings.Join(missing, ", "))
	}
	if c.vtep, err = parsePrefix(c.VTEPSubnet, netip.Addr.Is4); err != nil {
		return theirs("Unable to parse the VTEP Subnet: %w", err)
	}
	if c.vtep.Bits() < 8 {
		return theirs("VTEP MAC are derived from last 24 bits of VTEP IP.  Hence, in order to guarantee unique VTEP MAC we need the VTEP IP subnet to greater than /8")
	}
	if c.oui, err = parseOUI(c.VTEPMACOUI); err != nil {
		return theirs("Unable to parse VTEP MAC OUI: %w", err)
	}
	if c.VTEPSubnet6 != "" {
		if c.vtep6, err = parsePrefix(c.VTEPSubnet6, netip.Addr.Is6); err != nil {
			return theirs("Unable to parse the VTEP IPv6 Subnet: %w", err)
		}
	}
	for i := range c.Overlays {
		if err := c.Overlays[i].check(c.Overlays[:i]); err != nil {
			return err
		}
	}
	switch n := len(c.Overlays); {
	case n == 0:
		return theirs("Could not find any overlay configuration. Specify at least one overlay")
	case n > maxOverlays:
		return fmt.Errorf("the file has %d overlays, and Weft takes at most %d", n, maxOverlays)
	}
	return nil
}

// missing are the required fields that are not there.
func (c *Config) missing() (out []string) {
	if c.VTEPSubnet == "" {
		out = append(out, "vtep_subnet")
	}
	if c.VTEPMACOUI == "" {
		out = append(out, "vtep_mac_oui")
	}
	for i, o := range c.Overlays {
		if o.Name == "" {
			out = append(out, fmt.Sprintf("overlays[%d].name", i))
		}
	}
	return out
}

// theirs is an error in the words of DC/OS' modules.
func theirs(format string, args ...any) error { return fmt.Errorf(format, args...) }

// nameForm is what both Docker and Weft allow as a network's name.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// check refuses an overlay that comes after others.
func (o *Overlay) check(before []Overlay) (err error) {
	switch {
	case slices.ContainsFunc(before, func(b Overlay) bool { return b.Name == o.Name }):
		return theirs("Duplicate overlay configuration detected for overlay: %s", o.Name)
	case slices.Contains([]string{"host", "bridge", "default", "none"}, o.Name):
		return theirs("Overlay network name: %s is a reserved network name", o.Name)
	case len(o.Name) > maxName:
		return theirs("Overlay name: %s too long cannot, exceed %d  characters", o.Name, maxName)
	case !nameForm.MatchString(o.Name):
		return theirs("Overlay network name: %q is no name of a network: want letters, digits, - and _", o.Name)
	case o.Subnet == "" && o.Subnet6 == "":
		return fmt.Errorf("overlay %s has neither subnet nor subnet6", o.Name)
	}
	if o.v4, err = o.space("", o.Subnet, o.Prefix, netip.Addr.Is4, before); err == nil {
		o.v6, err = o.space("IPv6 ", o.Subnet6, o.Prefix6, netip.Addr.Is6, before)
	}
	return err
}

// space reads one subnet of an overlay; none where it is empty.
func (o *Overlay) space(family, subnet string, prefix int, is func(netip.Addr) bool, before []Overlay) (p netip.Prefix, err error) {
	if subnet == "" {
		return p, nil
	}
	if p, err = parsePrefix(subnet, is); err != nil {
		return p, theirs("Unable to determine %ssubnet for network: %w", family, err)
	}
	p = p.Masked()
	for _, b := range before {
		if slices.ContainsFunc(b.subnets(), p.Overlaps) {
			return p, theirs("Incorrect %saddress space for the overlay network '%s': Found overlapping address spaces", family, o.Name)
		}
	}
	least := p.Bits()
	if p.Addr().Is6() {
		least = max(least, 33) // weft.block has one option for both families
	}
	if prefix < least || prefix > p.Addr().BitLen() {
		return p, fmt.Errorf("overlay %s gives each agent a /%d of %s: want a prefix from /%d to /%d", o.Name, prefix, p, least, p.Addr().BitLen())
	}
	return p, nil
}

func parsePrefix(s string, is func(netip.Addr) bool) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err == nil && !is(p.Addr()) {
		err = fmt.Errorf("%q is of the other family", s)
	}
	return p, err
}

// parseOUI reads the first three bytes of a MAC whose others are 0.
func parseOUI(s string) (oui [3]byte, err error) {
	tokens := strings.Split(s, ":")
	if len(tokens) != 6 {
		return oui, theirs("Invalid MAC address. Mac address %s needs to be in the format xx:xx:xx:00:00:00", s)
	}
	for i, token := range tokens {
		b, err := strconv.ParseUint(token, 16, 8)
		switch {
		case err != nil:
			return oui, theirs("Invalid MAC address. Mac address %s needs to be in the format xx:xx:xx:00:00:00", s)
		case i < 3:
			oui[i] = byte(b)
		case b != 0:
			return oui, theirs("Invalid OUI MAC address: %s. Least significant three bytes should not be set for the OUI", s)
		}
	}
	return oui, nil
}
