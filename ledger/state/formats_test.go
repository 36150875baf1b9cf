package state

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/netmap"
)

var updateFormats = flag.Bool("formats", false, "write testdata of the present format; only before its first release")

// sampleCluster has something of everything that a snapshot holds.
func sampleCluster(t testing.TB) *cluster {
	c := newCluster(t, 3)
	for n := 1; n <= 2; n++ {
		c.ok(Command{Kind: KindEnsureSubnet, Host: hostID(n), Request: 1, LowestOpen: 1, EnsureSubnet: &EnsureSubnet{Want: pfx(web), BlockBits: 28}})
		c.ok(Command{Kind: KindGrantBlock, Host: hostID(n), Request: 2, LowestOpen: 1, GrantBlock: &GrantBlock{Subnet: pfx(web), Count: 2}})
	}
	c.ok(Command{Kind: KindReserve, Host: hostID(1), Reserve: &Reserve{Subnet: pfx(web), Name: "printer", Addr: ip("10.40.0.99")}})
	n := c.ok(Command{Kind: KindEnsureNetwork, Host: hostID(1), EnsureNetwork: &EnsureNetwork{Subnets: subnets(web), Name: "web", Docker: sampleDocker()}})
	c.ok(Command{Kind: KindEnsureNetwork, Host: hostID(2), EnsureNetwork: &EnsureNetwork{Subnets: subnets(web)}})
	c.ok(addName(netmap.StaticName{Network: n.Network.ID, Name: "nas", Addr: ip("192.0.2.7")}))
	c.ok(Command{Kind: KindRetireNetwork, Host: hostID(2), RetireNetwork: &RetireNetwork{n.Network.ID}})
	c.ok(Command{Kind: KindCede, Host: hostID(1), Cede: &Cede{ip("10.40.0.7"), hostID(2)}})
	b := c.ok(Command{Kind: KindGrantBlock, Host: hostID(1), GrantBlock: &GrantBlock{Subnet: pfx(web)}}).Block
	c.ok(Command{Kind: KindReturnBlock, Host: hostID(1), ReturnBlock: &ReturnBlock{Block: b.Prefix, Epoch: b.Epoch}})
	c.ok(Command{Kind: KindAddRange, Host: hostID(1), AddRange: &AddRange{pfx("10.99.0.0/16")}})
	c.ok(Command{Kind: KindRemove, Host: hostID(1), Remove: &Remove{Target: hostID(3), IsOff: true}})
	return c
}

func sampleDocker() *netmap.DockerNetwork {
	return &netmap.DockerNetwork{
		Labels: map[string]string{"k": "v"}, Options: map[string]string{}, IPAMOptions: map[string]string{"weft.block": "/28"}, Attachable: true, IPv6: true,
		Pools: []netmap.DockerPool{{Subnet: pfx(web), Range: pfx("10.40.0.0/25"), Gateway: ip("10.40.0.1"), Aux: map[string]netip.Addr{"printer": ip("10.40.0.99")}}},
	}
}

// TestReleasedFormatsStayReadable: what a release wrote to disk is read by all later
// ones and means the same. A file is never changed; each release adds its own.
func TestReleasedFormatsStayReadable(t *testing.T) {
	if *updateFormats {
		writeFormats(t)
	}
	files, err := filepath.Glob("testdata/snapshot-*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	want := factsOf(sampleCluster(t).state.Changes())
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := DecodeState(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, factsOf(s.Changes()), exact); diff != "" {
			t.Errorf("%s means another thing (-then +now):\n%s", name, diff)
		}
		again, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(again); err != nil {
			t.Errorf("%s: written again: %v", name, err)
		}
		c := &cluster{t: t, state: s, index: s.applied}
		c.ok(Command{Kind: KindGrantBlock, Host: hostID(2), GrantBlock: &GrantBlock{Subnet: pfx(web)}}) // it goes on
	}
	for _, name := range []string{"testdata/commands-0.1.json"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.SplitSeq(bytes.TrimSpace(raw), []byte("\n")) {
			if _, err := DecodeCommand(line); err != nil {
				t.Errorf("%s: %s: %v", name, line, err)
			}
		}
	}
}

func writeFormats(t *testing.T) {
	t.Helper()
	raw, err := sampleCluster(t).state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var commands bytes.Buffer
	for _, c := range samples() {
		b, err := EncodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		commands.Write(append(b, '\n'))
	}
	for name, b := range map[string][]byte{"snapshot-0.1.json": raw, "commands-0.1.json": commands.Bytes()} {
		if err := os.WriteFile(filepath.Join("testdata", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
