package netmap

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestIDsAreThirtyTwoHexDigits(t *testing.T) {
	want := ID{0xde, 0xad, 15: 0x01}
	got, err := ParseID(want.String())
	if got != want || err != nil || want.Short() != "dead0000" || want.IsZero() || !(ID{}).IsZero() {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "dead", want.String() + "00", "zz" + want.String()[2:]} {
		if _, err := ParseID(bad); !errors.Is(err, ErrBadID) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	var back map[HostID]int
	text, err := json.Marshal(map[HostID]int{want: 7})
	if err != nil || json.Unmarshal(text, &back) != nil || back[want] != 7 {
		t.Errorf("%s becomes %v", text, back)
	}
	if json.Unmarshal([]byte(`{"x":1}`), &back) == nil {
		t.Error("x was read as an id")
	}
}

func TestMACsFollowFromAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"10.32.0.2":        "02:57:0a:20:00:02",
		"::ffff:10.32.0.2": "02:57:0a:20:00:02",
	} {
		if got := MACOf(addr(text)).String(); got != want {
			t.Errorf("%s has %s, want %s", text, got, want)
		}
	}
	seen := map[MAC]netip.Addr{}
	for i := range 5000 {
		a := netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})
		m := MACOf(a)
		if other, twice := seen[m]; twice || m[0]&3 != 2 {
			t.Fatalf("%s has the MAC %s, which is %s's or not local and unicast", a, m, other)
		}
		seen[m] = a
	}
}

func TestMACsAreUnicastOrRefused(t *testing.T) {
	m, err := ParseMAC("02-57-0A-20-00-02")
	if err != nil || m != MACOf(addr("10.32.0.2")) {
		t.Errorf("%s, %v", m, err)
	}
	for _, bad := range []string{"", "02:57", "01:00:5e:00:00:01", "02:00:5e:10:00:00:00:01", "hello"} {
		if _, err := ParseMAC(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, want := range []MAC{{}, m} {
		var back MAC
		text, err := json.Marshal(want)
		if err != nil || json.Unmarshal(text, &back) != nil || back != want {
			t.Errorf("%s becomes %s", text, back)
		}
	}
	if new(MAC).UnmarshalText([]byte("junk")) == nil {
		t.Error("junk was read as a MAC")
	}
}

func TestRefusalsAreToldApartByKind(t *testing.T) {
	err := fmt.Errorf("ipam: %w", Refuse(Held, "%s is held by %s", "10.32.0.7", "web-2"))
	if !errors.Is(err, &Refusal{Kind: Held}) || errors.Is(err, &Refusal{Kind: Overlaps}) || errors.Is(err, ErrBadID) {
		t.Errorf("%v is not recognised", err)
	}
	if errors.Is(err, &Refusal{Kind: Held, Text: "something else"}) || err.Error() != "ipam: 10.32.0.7 is held by web-2" {
		t.Errorf("%q", err)
	}
}

func TestKindsHaveNames(t *testing.T) {
	decided := 0
	for k := KindHostFact; k <= KindStaticName; k++ {
		if k.String() == fmt.Sprintf("kind-%d", k) {
			t.Errorf("kind %d has no name", k)
		}
		if k.Decided() {
			decided++
		}
	}
	if decided != 7 || Kind(0).Decided() || Kind(0).String() != "kind-0" || KindName.Decided() {
		t.Errorf("%d kinds are the ledger's", decided)
	}
}

func TestStaticNamesAreRefused(t *testing.T) {
	good := StaticName{Network: 1, Name: "nas.office", Addr: addr("192.0.2.7")}
	if r := good.Check(); r != nil {
		t.Error(r)
	}
	for _, bad := range []StaticName{
		{Name: "", Addr: good.Addr},
		{Name: "a..b", Addr: good.Addr},
		{Name: "a b", Addr: good.Addr},
		{Name: "*", Addr: good.Addr},
		{Name: "Nas", Addr: good.Addr},
		{Name: strings.Repeat("a.", MaxStaticName/2) + "a", Addr: good.Addr},
		{Name: strings.Repeat("a", 64), Addr: good.Addr},
		{Name: "nas"},
		{Name: "nas", Addr: addr("0.0.0.0")},
		{Name: "nas", Addr: addr("127.0.0.1")},
		{Name: "nas", Addr: addr("224.0.0.1")},
		{Name: "nas", Addr: addr("::ffff:127.0.0.1")},
		{Name: "nas", Addr: addr("::1%eth0")},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v is taken", bad)
		}
		bad.Network, bad.Addr = 1, bad.Addr.Unmap().WithZone("") // as in a key
		if _, err := Encode(StaticNameKey(bad), bad); err == nil {
			t.Errorf("%+v is encoded", bad)
		}
	}
	longest := StaticName{Network: 1<<64 - 1, Name: strings.Repeat("a.", MaxStaticName/2-1) + "aa", Addr: addr("2001:db8::7")}
	if _, err := Encode(StaticNameKey(longest), longest); err != nil || len(longest.Name) != MaxStaticName {
		t.Errorf("the longest name is not encoded: %v", err)
	}
}

// TestHostFactOfAnOlderRelease: what that does not write is empty.
func TestHostFactOfAnOlderRelease(t *testing.T) {
	key, fact := HostFactKey(hostID(1)), HostFact{Name: "web-1", Version: "0.1", Keeper: true}
	value, err := Encode(key, fact)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(key, value[:len(value)-1]); err != nil || got != any(fact) {
		t.Errorf("%+v, %v", got, err)
	}
}
