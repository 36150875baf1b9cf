package netmap

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func hostID(b byte) HostID { return HostID{b, 0xaa, 15: b} }

func dockerID(n byte) EndpointID {
	return EndpointID(strings.Repeat(string("0123456789abcdef"[n%16]), 64))
}

// nouns is one of each kind and the odd forms they come in.
func nouns() map[string]Change {
	at := func(noun any) Change {
		key, _ := KeyOf(noun)
		return Change{key, noun}
	}
	return map[string]Change{
		"host fact":       {HostFactKey(hostID(1)), HostFact{Name: "web-1", Underlay: netip.MustParseAddrPort("192.0.2.1:7950"), MTU: 1500, Version: "1.0", Keeper: true, Overlays: `{"a":{}}`}},
		"host fact v6":    {HostFactKey(hostID(1)), HostFact{Underlay: netip.MustParseAddrPort("[2001:db8::1]:7950")}},
		"host fact empty": {HostFactKey(hostID(1)), HostFact{}},
		"endpoint":        at(Endpoint{ID: dockerID(1), Network: 7, V4: addr("10.32.0.2"), MAC: MACOf(addr("10.32.0.2"))}),
		"endpoint name":   at(EndpointName{Endpoint: dockerID(1), Name: "redis"}),
		"endpoint names": at(EndpointName{
			Endpoint: dockerID(1), Name: "web.1", Aliases: []string{"web", "store"}, Hostname: "h", Short: "0123456789ab", App: "/web/site",
			Services: []Service{{80, TCP}, {53, UDP}, {9, SCTP}}, Unhealthy: true,
		}),
		"endpoint v6":      at(Endpoint{ID: dockerID(2), Network: 7, V6: addr("fd00::2"), MAC: MACOf(addr("fd00::2"))}),
		"endpoint dual":    at(Endpoint{ID: dockerID(3), Network: 300, V4: addr("10.32.0.2"), V6: addr("fd00::2"), MAC: MAC{2, 1, 2, 3, 4, 5}}),
		"endpoint odd id":  at(Endpoint{ID: "test-endpoint"}),
		"endpoint caps id": at(Endpoint{ID: EndpointID(strings.Repeat("A", 64))}),
		"host entry":       at(HostEntry{ID: hostID(3), Name: "db", Index: 9, Removed: true, Level: 3}),
		"network": at(Network{
			ID: 900, Name: "overlay", VNI: FirstVNI + 4, Subnets: []netip.Prefix{prefix("10.32.0.0/20"), prefix("fd00::/64")},
			MTU: 1400, Multicast: true, Host: true, Internal: true, Retired: true, Creator: hostID(4), Docker: sampleDocker(),
		}),
		"network bare":      at(Network{ID: 1}),
		"network as by API": at(Network{ID: 1, Docker: &DockerNetwork{Labels: map[string]string{}}}), // not the same as nil
		"subnet": at(Subnet{
			Prefix: prefix("10.32.0.0/20"), BlockBits: 26, Gateway: addr("10.32.0.1"), Range: prefix("10.32.1.0/24"),
			Reserved: map[string]netip.Addr{"router": addr("10.32.0.5"), "dns": addr("10.32.0.6")},
		}),
		"subnet bare": at(Subnet{Prefix: prefix("fd00::/64"), BlockBits: 80}),
		"block":       at(Block{Prefix: prefix("10.32.0.64/26"), Subnet: prefix("10.32.0.0/20"), Owner: hostID(2), Epoch: 1 << 40}),
		"claim":       at(Claim{Addr: addr("fd00::5"), Subnet: prefix("fd00::/64"), Owner: hostID(2), Epoch: 3}),
		"static name": at(StaticName{Network: 300, Name: "nas.office", Addr: addr("192.0.2.7")}),
		"range":       at(Range{Prefix: prefix("0.0.0.0/0"), Order: 2}),
	}
}

// TestEveryFieldIsEncoded: a field that is added to a noun and forgotten in the
// codec is lost on its way to the other hosts, and nothing else would say so.
func TestEveryFieldIsEncoded(t *testing.T) {
	set := map[string]bool{}
	for _, c := range nouns() {
		v := reflect.ValueOf(c.Value)
		for i := range v.NumField() {
			name := v.Type().String() + "." + v.Type().Field(i).Name
			set[name] = set[name] || !v.Field(i).IsZero()
		}
	}
	delete(set, "netmap.Endpoint.Name") // is a record of its own
	for name, ok := range set {
		if !ok {
			t.Errorf("no noun of TestEveryNounSurvivesEncoding sets %s", name)
		}
	}
}

func TestEveryNounSurvivesEncoding(t *testing.T) {
	for name, c := range nouns() {
		t.Run(name, func(t *testing.T) {
			value, err := Encode(c.Key, c.Value)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(c.Key, value)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.Value, got, compareAddrs); diff != "" {
				t.Error(diff)
			}
			if _, err := Decode(c.Key, append(value, 1, 2, 3)); err != nil {
				t.Errorf("a field that a newer version added: %v", err)
			}
			for n := range value {
				if _, err := Decode(c.Key, value[:n]); err != nil && !errors.Is(err, ErrMalformed) {
					t.Errorf("cut after %d bytes: %v", n, err)
				}
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	many := map[string]string{}
	for i := range maxList + 1 {
		many[strings.Repeat("x", i)] = ""
	}
	for name, c := range map[string]Change{
		"a wrong key":           {NetworkKey(4), Network{ID: 5}},
		"a key of another kind": {NetworkKey(4), HostFact{}},
		"a pointer":             {NetworkKey(4), &Network{ID: 4}},
		"no identity":           {NetworkKey(0), Network{}},
		"an escape sequence":    {NetworkKey(4), Network{ID: 4, Name: "web\x1b[2J"}},
		"a host's escape":       {HostEntryKey(hostID(3)), HostEntry{ID: hostID(3), Name: "db\u009b2J", Index: 9}},
		"not UTF-8":             {HostFactKey(hostID(1)), HostFact{Name: "a\xff"}},
		"an endpoint's line":    {NameKey(dockerID(1)), EndpointName{Endpoint: dockerID(1), Name: "a\nb"}},
		"another's name":        {NameKey(dockerID(2)), EndpointName{Endpoint: dockerID(1), Name: "web"}},
		"a long name":           {NetworkKey(4), Network{ID: 4, Name: strings.Repeat("n", maxString+1)}},
		"a negative MTU":        {NetworkKey(4), Network{ID: 4, MTU: -1}},
		"too many options":      {NetworkKey(4), Network{ID: 4, Docker: &DockerNetwork{Options: many}}},
		"an unmasked prefix":    {RangeKey(prefix("10.0.0.1/8")), Range{Prefix: prefix("10.0.0.1/8")}},
		"a v6 address as v4":    {EndpointKey("e"), Endpoint{ID: "e", V4: addr("fd00::1")}},
		"a long id":             {EndpointKey(EndpointID(strings.Repeat("e", 200))), Endpoint{ID: EndpointID(strings.Repeat("e", 200))}},
	} {
		if _, err := Encode(c.Key, c.Value); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
}

// sampleDocker has every flag that Docker knows.
func sampleDocker() *DockerNetwork {
	return &DockerNetwork{
		Labels: map[string]string{"b": "2", "a": "1", "c": ""}, Options: map[string]string{"weft.mtu": "1400"},
		IPAMOptions: map[string]string{"weft.block": "/26"}, Attachable: true, IPv6: true,
		Pools: []DockerPool{
			{Subnet: prefix("10.32.0.0/20"), Range: prefix("10.32.1.0/24"), Gateway: addr("10.32.0.1"), Aux: map[string]netip.Addr{"nas": addr("10.32.0.9"), "dns": addr("10.32.0.8")}},
			{Subnet: prefix("fd00::/64")},
		},
	}
}

func TestUnknownKindsAreCarried(t *testing.T) {
	noun, err := Decode(Key{200, "later"}, []byte("what a later version knows"))
	if noun != nil || err != nil {
		t.Errorf("got %v, %v; want neither a noun nor an error", noun, err)
	}
}

func TestKeysPrintAsOperatorsKnowThem(t *testing.T) {
	for want, key := range map[string]Key{
		"subnet 10.32.0.0/20":                    SubnetKey(prefix("10.32.0.0/20")),
		"block fd00::/80":                        BlockKey(prefix("fd00::/80")),
		"claim 10.32.0.9":                        ClaimKey(addr("10.32.0.9")),
		"static-name nas 192.0.2.7 of network 5": StaticNameKey(StaticName{Network: 5, Name: "nas", Addr: addr("192.0.2.7")}),
		"range 10.0.0.0/8":                       RangeKey(prefix("10.0.0.0/8")),
		"network 77":                             NetworkKey(77),
		"host " + hostID(1).String():             HostEntryKey(hostID(1)),
		"host-fact " + hostID(1).String():        HostFactKey(hostID(1)),
		"endpoint " + string(dockerID(4)):        EndpointKey(dockerID(4)),
		"endpoint web":                           EndpointKey("web"),
		"kind-99 6869":                           {99, "hi"},
		"claim 05":                               {KindClaim, "\x05"},
	} {
		if got := key.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAnEndpointIsSmall(t *testing.T) {
	e := Endpoint{ID: dockerID(1), Network: 40, V4: addr("10.32.0.2"), MAC: MACOf(addr("10.32.0.2")), Name: "web.1"}
	records, err := RecordsOf(1, []Change{{EndpointKey(e.ID), e}})
	if err != nil {
		t.Fatal(err)
	}
	got := len(AppendBatch(nil, Batch{Origin: hostID(1), Life: 3, Seq: 1, Records: records}))
	t.Logf("one endpoint in a batch of its own takes %d bytes", got)
	if got > 80 {
		t.Errorf("%d bytes, want at most 80", got)
	}
}

func sampleBatch(t testing.TB) Batch {
	t.Helper()
	b := Batch{Origin: hostID(9), Life: 4, Prev: 10}
	all := nouns()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		b.Seq = b.Prev + uint64(len(b.Records)) + 1
		r, err := c.record(b.Seq)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b.Records = append(b.Records, r)
	}
	b.Seq++
	b.Records = append(b.Records, Record{Seq: b.Seq, Key: NetworkKey(4), Tomb: true})
	b.Seq++
	b.Records = append(b.Records, Record{Seq: b.Seq, Key: Key{99, "new"}, Value: "?"})
	return b
}

func TestBatchSurvivesEncoding(t *testing.T) {
	want := sampleBatch(t)
	buf := AppendBatch(nil, want)
	got, err := DecodeBatch(buf)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Error(diff)
	}
	for n := range buf {
		if _, err := DecodeBatch(buf[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(buf), err)
		}
	}
}

func TestDecodeBatchRefuses(t *testing.T) {
	ok := Batch{Origin: hostID(1), Life: 1, Prev: 3, Seq: 5, Records: []Record{{Seq: 5, Key: Key{99, "k"}, Value: "v"}}}
	for name, spoil := range map[string]func(*Batch){
		"no origin":               func(b *Batch) { b.Origin = ID{} },
		"no life":                 func(b *Batch) { b.Life = 0 },
		"backwards":               func(b *Batch) { b.Prev = 9 },
		"a record before":         func(b *Batch) { b.Records[0].Seq = 3 },
		"a record after":          func(b *Batch) { b.Records[0].Seq = 6 },
		"a whole that continues":  func(b *Batch) { b.Whole = true },
		"a whole with a tomb":     func(b *Batch) { b.Whole, b.Prev, b.Records[0].Tomb = true, 0, true },
		"a network without an id": func(b *Batch) { b.Records[0].Key = NetworkKey(0) },
	} {
		b := ok
		b.Records = []Record{ok.Records[0]}
		spoil(&b)
		if _, err := DecodeBatch(AppendBatch(nil, b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	if _, err := DecodeBatch(append(AppendBatch(nil, ok), 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too many: %v", err)
	}
}

func TestSplitKeepsLedgerEntriesWhole(t *testing.T) {
	b := Batch{Origin: hostID(1), Life: 1, Prev: 4, Seq: 20}
	for _, seq := range []uint64{5, 7, 7, 7, 9, 12} {
		b.Records = append(b.Records, Record{Seq: seq, Key: Key{99, string(rune('a' + len(b.Records)))}, Value: string(make([]byte, 100))})
	}
	pieces := b.Split(300)
	var got [][2]uint64
	var records []Record
	for _, p := range pieces {
		got = append(got, [2]uint64{p.Prev, p.Seq})
		records = append(records, p.Records...)
	}
	if diff := cmp.Diff([][2]uint64{{4, 5}, {5, 7}, {7, 20}}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(b.Records, records, compareAddrs); diff != "" {
		t.Error(diff)
	}
}

func TestExchangeValuesSurviveEncoding(t *testing.T) {
	heads := []Head{{hostID(1), 1, 2, 3}, {hostID(2), 1 << 60, 1 << 61, 1 << 62}}
	gotHeads, err := DecodeHeads(AppendHeads(nil, heads))
	if diff := cmp.Diff(heads, gotHeads); diff != "" || err != nil {
		t.Error(diff, err)
	}
	pulls := []Pull{{hostID(1), 5, 6, BlockKey(prefix("10.0.0.0/8")), 7}, {Origin: hostID(2)}}
	gotPulls, err := DecodePulls(AppendPulls(nil, pulls))
	if diff := cmp.Diff(pulls, gotPulls); diff != "" || err != nil {
		t.Error(diff, err)
	}
	d := Digest{1, 2, 63: 9}
	gotDigest, err := DecodeDigest(AppendDigest(nil, d))
	if gotDigest != d || err != nil {
		t.Error(gotDigest, err)
	}
	if got := len(AppendHeads(nil, []Head{{hostID(1), 1 << 63, 1 << 63, 1}})); got > MaxHeadBytes+5 {
		t.Errorf("a head takes %d bytes", got)
	}
}

func FuzzDecode(f *testing.F) {
	for name, c := range nouns() {
		value, err := Encode(c.Key, c.Value)
		if err != nil {
			f.Fatal(name, err)
		}
		f.Add(byte(c.Key.Kind), c.Key.ID, value)
	}
	f.Fuzz(func(t *testing.T, kind byte, id string, value []byte) {
		key := Key{Kind(kind), id}
		_ = key.String()
		noun, err := Decode(key, value)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if err != nil || noun == nil {
			return
		}
		again, err := Encode(key, noun)
		if err != nil {
			t.Fatalf("%s cannot be written again: %v", key, err)
		}
		back, err := Decode(key, again)
		if diff := cmp.Diff(noun, back, compareAddrs); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(AppendBatch(nil, sampleBatch(f)))
	f.Add(AppendBatch(nil, Batch{Origin: hostID(1), Life: 1, Seq: 1, Whole: true}))
	f.Fuzz(func(t *testing.T, buf []byte) {
		b, err := DecodeBatch(buf)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := DecodeBatch(AppendBatch(nil, b))
		if diff := cmp.Diff(b, again, compareAddrs); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
		for _, cluster := range []ID{b.Origin, hostID(77)} {
			m := NewMap(cluster)
			if _, err := m.Apply(b); err != nil {
				t.Fatal(err)
			}
			_ = m.View()
		}
	})
}

func FuzzDecodeExchange(f *testing.F) {
	f.Add(AppendHeads(nil, []Head{{hostID(1), 1, 2, 3}}))
	f.Add(AppendPulls(nil, []Pull{{hostID(1), 5, 6, NetworkKey(4), 7}, {Origin: hostID(2)}}))
	f.Add(AppendDigest(nil, Digest{1}))
	f.Fuzz(func(_ *testing.T, buf []byte) {
		m := NewMap(ID{})
		if heads, err := DecodeHeads(buf); err == nil {
			m.Compare(heads)
			m.Diverged(heads)
		}
		if p, err := DecodePulls(buf); err == nil {
			m.AppendAnswer(nil, p, 100)
		}
		if d, err := DecodeDigest(buf); err == nil {
			m.HeadsUnlike(d)
		}
		_ = m.LoadCache(buf)
	})
}

// TestNoiseNeverPanics is the fuzzers' idea in every ordinary run.
func TestNoiseNeverPanics(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	good := AppendBatch(nil, sampleBatch(t))
	for range 20_000 {
		buf := append([]byte(nil), good[:chance.IntN(len(good)+1)]...)
		for range chance.IntN(4) {
			if len(buf) > 0 {
				buf[chance.IntN(len(buf))] = byte(chance.Uint32())
			}
		}
		if b, err := DecodeBatch(buf); err == nil {
			m := NewMap(b.Origin)
			_, _ = m.Apply(b)
			_ = m.View()
		}
	}
}

// TestARangeOfAnOlderVersionHasNoOrder, and is read all the same.
func TestARangeOfAnOlderVersionHasNoOrder(t *testing.T) {
	key := RangeKey(prefix("10.32.0.0/12"))
	if got, err := Decode(key, nil); err != nil || got != (Range{Prefix: prefix("10.32.0.0/12")}) {
		t.Errorf("read as %v, %v", got, err)
	}
	want := Range{Prefix: prefix("10.32.0.0/12"), Order: 3}
	raw, err := Encode(key, want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(key, raw); err != nil || got != want {
		t.Errorf("read as %v, %v, want %v", got, err, want)
	}
}
