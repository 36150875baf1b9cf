package ledger

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// TestAReplacementThatWasKilledIsEndedOrUndone: the directory is the old one or the
// complete new one, never half of it and never none.
func TestAReplacementThatWasKilledIsEndedOrUndone(t *testing.T) {
	for name, c := range map[string]struct {
		there map[string]string // directory: what is in it
		want  string
	}{
		"nothing happened":            {map[string]string{"": "old"}, "old"},
		"while it was written":        {map[string]string{"": "old", halfDir: "half"}, "old"},
		"when it was complete":        {map[string]string{"": "old", freshDir: "new"}, "old"},
		"when the old was set aside":  {map[string]string{oldDir: "old", freshDir: "new"}, "new"},
		"after it":                    {map[string]string{"": "new", oldDir: "old"}, "new"},
		"no log, while it is written": {map[string]string{halfDir: "half"}, ""},
		"no log, when complete":       {map[string]string{freshDir: "new"}, "new"},
		"twice":                       {map[string]string{"": "old", halfDir: "half", freshDir: "new", oldDir: "older"}, "old"},
	} {
		dir := filepath.Join(t.TempDir(), "ledger")
		for suffix, text := range c.there {
			if err := os.MkdirAll(dir+suffix, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir+suffix, "what"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := settleDir(dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "what"))
		if string(got) != c.want {
			t.Errorf("%s: the ledger is %q (%v), want %q", name, got, err, c.want)
		}
		for _, suffix := range []string{halfDir, freshDir} {
			if _, err := os.Stat(dir + suffix); err == nil {
				t.Errorf("%s: %s is left", name, suffix)
			}
		}
	}
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := os.MkdirAll(dir+halfDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replaceDir(dir); err != nil { // where nothing was before
		t.Error(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

func FuzzFounding(f *testing.F) {
	for _, a := range []foundingAsk{{}, {Ballot: ballot{3, hostID(1)}, From: electors(1)[0], To: hostID(2), Expect: 3, Plan: &Plan{Cluster: clusterID, Keepers: firstKeepers(hostID(1), electors(1, 2, 3)), Ranges: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}}}} {
		b, err := state.Encode(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"v":1,"body":{"plan":{"keepers":[{}]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := state.Decode[foundingAsk](b, state.MaxCommand)
		if err != nil || q.Plan == nil || q.Plan.check() != nil {
			return
		}
		a, ok := acceptor{}.prepare(q.Ballot)
		if !ok {
			return
		}
		if a, ok = a.accept(q.Ballot, q.Plan); !ok || a.Plan.lost(nil) {
			t.Errorf("a plan that was checked is not accepted, or lost: %+v", a)
		}
		configurationOf(a.Plan.Keepers)
	})
}

func FuzzTestimony(f *testing.F) {
	b, err := state.Encode(report{Keeps: true, Generation: state.NextGeneration(1, 2), Term: 3, Last: 4, Voters: firstKeepers(hostID(1), electors(1, 2, 3))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) {
		t, err := state.Decode[report](b, state.MaxReply)
		if err != nil {
			return
		}
		c := &survey{self: hostID(1), answers: map[netmap.HostID]report{hostID(2): t, hostID(1): {Keeps: true}}, names: map[netmap.HostID]Member{}}
		_, _ = c.decide(Recovery{}) // whatever it says, it does not panic
	})
}

func TestGenerationsAreStrangers(t *testing.T) {
	first, second, third := raftClusterID(clusterID, 1), raftClusterID(clusterID, state.NextGeneration(1, 7)), raftClusterID(clusterID, state.NextGeneration(1, 8))
	if first != clusterID || second == first || second == third {
		t.Error(first, second, third)
	}
}
