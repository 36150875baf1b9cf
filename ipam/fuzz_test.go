package ipam

import (
	"testing"

	"github.com/weftnet/weft/netmap"
)

func FuzzPoolID(f *testing.F) {
	for _, s := range []string{"weft:10.32.0.0/20", "weft:10.32.0.0/20,10.32.1.0/24", "weft:fd00::/64", "", "weft:", "weft:10.32.0.1/20", "weft:10.0.0.0/8,11.0.0.0/8", "weft:10.0.0.0/8,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParsePoolID(s)
		if err != nil {
			return
		}
		again, err := ParsePoolID(id.String())
		if err != nil || again != id {
			t.Errorf("%q reads as %v, which prints as %q and reads as %v, %v", s, id, id, again, err)
		}
	})
}

func FuzzPoolRequest(f *testing.F) {
	f.Add("weft", "10.40.0.0/16", "10.40.1.0/24", "weft.block", "/24", false)
	f.Add("weft", "", "", "other", "x", true)
	f.Add("", "::ffff:1.2.3.4/120", "1/2", "weft.x", "", true)
	f.Fuzz(func(t *testing.T, space, pool, sub, opt, value string, v6 bool) {
		ask, err := parsePool(PoolRequest{AddressSpace: space, Pool: pool, SubPool: sub, Options: map[string]string{opt: value}, V6: v6})
		if err == nil && ask.Range.IsValid() && !netmap.Within(ask.Range, ask.Want) {
			t.Errorf("range %s outside %s was taken", ask.Range, ask.Want)
		}
		if err == nil && ask.Want != ask.Want.Masked() {
			t.Errorf("subnet %s has host bits", ask.Want)
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add("subnet/10.40.0.0/24", []byte(`{"subnet":{"prefix":"10.40.0.0/24","block_bits":28}}`), "addr/10.40.0.3", []byte(`{"held":true}`))
	f.Add("block/10.40.0.0/28", []byte(`{}`), "claim/10.40.0.3", []byte(`{"addr":"x"}`))
	f.Add("foreign/10.40.0.3", []byte(`"zz"`), "release/10.0.0.0/8", []byte{})
	f.Fuzz(func(_ *testing.T, k1 string, v1 []byte, k2 string, v2 []byte) {
		r, err := restore(&env{}, map[string][]byte{k1: v1, k2: v2})
		if err != nil {
			return
		}
		for _, p := range r.pools {
			p.Pick(p.prefix, "")
			p.Free(p.prefix)
			p.keys()
		}
	})
}
