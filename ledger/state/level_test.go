package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

func admitAt(host, level int) Command {
	return Command{Kind: KindAdmit, Host: hostID(host), Admit: &Admit{Name: fmt.Sprintf("host-%d", host), Level: level}}
}

// levels is the model of TestTheLevelIsTheLowestAndNeverFalls.
type levels struct {
	members map[int]int
	gone    map[int]bool
	active  int
}

func (m *levels) learn() {
	lowest := 0
	for _, level := range m.members {
		if lowest == 0 || level < lowest {
			lowest = level
		}
	}
	m.active = max(m.active, lowest)
}

// TestTheLevelIsTheLowestAndNeverFalls whoever comes, is upgraded or downgraded, and goes.
func TestTheLevelIsTheLowestAndNeverFalls(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster(t, 0)
		m := &levels{members: map[int]int{}, gone: map[int]bool{}, active: 1}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			host, level := rapid.IntRange(1, 4).Draw(rt, "host"), rapid.IntRange(0, 4).Draw(rt, "level")
			m.step(rt, c, rapid.SampledFrom([]Kind{KindAdmit, KindAdmit, KindAdmit, KindRemove, KindLeave}).Draw(rt, "kind"), host, level)
			if c.state.Level() != m.active {
				rt.Fatalf("the cluster runs level %d, its members are of %v, it was at %d", c.state.Level(), m.members, m.active)
			}
		}
		b, err := c.state.Encode()
		if err != nil || !bytes.HasPrefix(b, fmt.Appendf(nil, `{"v":%d,`, m.active)) {
			rt.Fatalf("a snapshot at level %d begins with %.10s, %v", m.active, b, err)
		}
		back, err := DecodeState(b)
		if m.active > Level {
			if !errors.Is(err, ErrNewer) {
				rt.Fatalf("a snapshot of level %d: %v", m.active, err)
			}
		} else if err != nil || back.Level() != m.active {
			rt.Fatalf("a snapshot: %v", err)
		}
		if got := Rebuild(nil, 1, c.index+1, c.state.Changes()).Level(); got != min(m.active, Level) {
			rt.Fatalf("facts alone give level %d, the cluster was at %d", got, m.active)
		}
	})
}

func (m *levels) step(rt *rapid.T, c *cluster, kind Kind, host, level int) {
	cmd := Command{Kind: kind, Host: hostID(host)}
	switch kind {
	case KindAdmit:
		cmd = admitAt(host, level)
	case KindRemove:
		cmd.Remove = &Remove{Target: hostID(host%4 + 1), IsOff: true}
	}
	r := c.do(cmd)
	outdated := r.Refusal != nil && r.Refusal.Kind == netmap.Outdated
	if want := kind == KindAdmit && !m.gone[host] && max(level, 1) < m.active; outdated != want {
		rt.Fatalf("%s of host %d at level %d, in a cluster at %d: %v", kind, host, level, m.active, r.Refusal)
	}
	if r.Refusal != nil {
		return
	}
	switch kind {
	case KindAdmit:
		m.members[host] = max(level, 1)
	case KindRemove:
		host = host%4 + 1
		fallthrough
	case KindLeave:
		m.gone[host] = true
		delete(m.members, host)
	}
	m.learn()
	if r.Level != m.active {
		rt.Fatalf("the reply has level %d, want %d", r.Level, m.active)
	}
}

// TestNobodyRaisesTheLevelAboveTheLeadersRelease: members say what they know of, and anybody may
// say it in their name. What the ledger writes can be read by who leads it, and by who recovers it.
func TestNobodyRaisesTheLevelAboveTheLeadersRelease(t *testing.T) {
	c := newCluster(t, 0)
	for i := 1; i <= 3; i++ {
		forged := admitAt(i, netmap.MaxLevel)
		forged.Leader = Level
		c.ok(forged)
	}
	readable := func(s *State) {
		t.Helper()
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(b); err != nil || s.Level() != Level {
			t.Errorf("at level %d: %v", s.Level(), err)
		}
	}
	readable(c.state)
	readable(Rebuild(nil, 1, c.index+1, c.state.Changes()))
	c.ok(Command{Kind: KindRenew, Host: hostID(1), Leader: Level + 1}) // the leader was upgraded
	if got := c.state.Level(); got != Level+1 {
		t.Errorf("the cluster runs level %d, its leader's release knows %d", got, Level+1)
	}
}

func TestAReleaseThatIsTooOldIsTold(t *testing.T) {
	c := newCluster(t, 0)
	c.ok(admitAt(1, 3))
	text := c.do(admitAt(2, 1)).Refusal.Text
	for _, want := range []string{"host-2", "feature level 1", "runs level 3", "install release", clusterID.String()} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	for _, level := range []int{-1, netmap.MaxLevel + 1} {
		if r := c.do(admitAt(2, level)); r.Refusal == nil || r.Refusal.Kind != netmap.BadInput {
			t.Errorf("level %d: %+v", level, r)
		}
	}
}

// TestCommandsAboveTheClustersLevel are refused, and their bytes say which level reads them.
func TestCommandsAboveTheClustersLevel(t *testing.T) {
	const later Kind = "later"
	kinds[later] = rule{since: 7, do: (*step).renew}
	t.Cleanup(func() { delete(kinds, later) })
	c := newCluster(t, 0)
	c.ok(admitAt(1, 7))
	c.ok(admitAt(2, 7))
	cmd := Command{Kind: later, Host: hostID(1)}
	c.ok(cmd)
	b, err := EncodeCommand(cmd)
	if err != nil || !bytes.HasPrefix(b, []byte(`{"v":7,`)) {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := DecodeCommand(b); !errors.Is(err, ErrNewer) {
		t.Errorf("it was read by this release: %v", err)
	}
	c = newCluster(t, 0)
	c.ok(admitAt(1, 7))
	c.state.level, c.state.hosts[hostID(1)].Level = 6, 6
	if r := c.do(cmd); r.Refusal == nil || r.Refusal.Kind != netmap.Outdated || !strings.Contains(r.Refusal.Text, "needs feature level 7, and the cluster runs level 6") {
		t.Errorf("%+v", r)
	}
}

func TestFieldsSayWithWhichLevelTheyCame(t *testing.T) {
	type inner struct {
		New int `json:"new,omitempty" since:"5"`
	}
	type outer struct {
		Old  int       `json:"old"`
		Next string    `json:"next,omitempty" since:"3"`
		List []*inner  `json:"list,omitempty"`
		At   [2]string `json:"at"`
	}
	for want, value := range map[int]outer{1: {Old: 9, List: []*inner{{}, nil}}, 3: {Next: "x"}, 5: {List: []*inner{{}, {New: 1}}}} {
		b, err := Encode(value)
		if err != nil || !bytes.HasPrefix(b, fmt.Appendf(nil, `{"v":%d,`, want)) {
			t.Errorf("%s, %v; want level %d", b, err, want)
		}
	}
}

// TestWhatTheNextLevelWrites while a host of this release is in the cluster is read by
// this release, and what it writes later is refused as a whole. The next release's own test
// writes the files (build tag nextlevel).
func TestWhatTheNextLevelWrites(t *testing.T) {
	for _, name := range []string{"mixed", "risen"} {
		snapshot, err := os.ReadFile("testdata/" + name + "-snapshot.json")
		if err != nil {
			t.Fatal(err)
		}
		commands, err := os.ReadFile("testdata/" + name + "-commands.json")
		if err != nil {
			t.Fatal(err)
		}
		readable := name == "mixed" || Level > 1
		_, err = DecodeState(snapshot)
		for line := range bytes.SplitSeq(bytes.TrimSpace(commands), []byte("\n")) {
			_, err2 := DecodeCommand(line)
			err = errors.Join(err, err2)
			if !readable && !errors.Is(err2, ErrNewer) {
				t.Errorf("%s: %s: %v", name, line, err2)
			}
		}
		if readable != (err == nil) || !readable && !errors.Is(err, ErrNewer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
