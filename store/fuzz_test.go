package store

import (
	"errors"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/netmap"
)

// FuzzState: what the state file says of itself, of its journal and of the host is read
// or refused as a bad record, and what is read is written as it was.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"generation":3,"pages":256}`), []byte(`{"host":"0123456789abcdef0123456789abcdef","start":7,"nonce":9,"earlier":[{"start":6,"nonce":8}]}`))
	f.Add([]byte(`{"generation":0}`), []byte(`{"host":""}`))
	f.Add([]byte(`{"generation":18446744073709551615,"pages":-1}`), []byte(`{"start":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, journal, identity []byte) {
		if s, err := readJournalState(journal); err == nil && (s.Generation == 0 || s.Pages <= 0) || err != nil && !errors.Is(err, errBadRecord) {
			t.Errorf("journal %q: %+v, %v", journal, s, err)
		}
		if identity == nil {
			identity = []byte{}
		}
		id, err := readIdentity(identity)
		if err != nil {
			if !errors.Is(err, errBadRecord) {
				t.Errorf("identity %q: %v", identity, err)
			}
			return
		}
		c, err := identityChange(id)
		if err != nil || id.Host == (netmap.HostID{}) {
			t.Fatalf("identity %q: %+v, %v", identity, id, err)
		}
		again, err := readIdentity(c.set[keyIdentity])
		if diff := cmp.Diff(id, again); diff != "" && len(id.Earlier)+len(again.Earlier) > 0 || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if next := id.next(); id.Start > 0 && (len(next.Earlier) == 0 || next.Earlier[0] != (Incarnation{Start: id.Start, Nonce: id.Nonce})) {
			t.Errorf("after %+v comes %+v", id, next)
		}
	})
}

// FuzzFormat: a format is a number that this release knows, or refused.
func FuzzFormat(f *testing.F) {
	for _, s := range []string{"1", "2", strconv.Itoa(Format + 1), "-1", "x", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := parseFormat(raw)
		if err == nil && (n < 1 || n > Format) || err != nil && !errors.Is(err, errBadRecord) && !errors.Is(err, ErrNewerFormat) {
			t.Errorf("%q: %d, %v", raw, n, err)
		}
	})
}
