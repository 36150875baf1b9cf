//go:build nextlevel

package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weftnet/weft/netmap"
)

// TestNextLevelWaitsForTheLastHost, and what is written until then is of level 1.
func TestNextLevelWaitsForTheLastHost(t *testing.T) {
	c := newCluster(t, 0)
	var log bytes.Buffer
	do := func(cmd Command) Reply {
		t.Helper()
		if refusal := cmd.CheckLevel(c.state.Level()); refusal != nil { // as the leader does
			return Reply{Refusal: refusal}
		}
		b, err := EncodeCommand(cmd)
		if err != nil {
			t.Fatal(err)
		}
		log.Write(append(b, '\n'))
		return c.do(cmd)
	}
	more := pfx("10.99.0.0/16")
	drop := Command{Kind: KindDropRange, Host: hostID(2), Start: 1, Nonce: 7, AddRange: &AddRange{more}}
	do(admitAt(1, 1))
	do(admitAt(2, Level))
	for _, cmd := range append(samples()[2:], Command{Kind: KindAddRange, Host: hostID(2), AddRange: &AddRange{more}}) {
		if cmd.Kind != KindRemove && cmd.Kind != KindLeave {
			do(cmd)
		}
	}
	if r := do(drop); r.Refusal == nil || r.Refusal.Kind != netmap.Outdated {
		t.Errorf("in a cluster with a host of level 1: %+v", r)
	}
	recorded(t, "mixed", c, log.Bytes())
	log.Reset()
	upgraded := admitAt(1, Level)
	upgraded.Start = 2
	c.ok(upgraded)
	if r := do(drop); r.Refusal != nil || len(c.last) == 0 {
		t.Errorf("after the last upgrade: %+v, %v", r, c.last)
	}
	recorded(t, "risen", c, log.Bytes())
	if r := do(admitAt(3, 1)); r.Refusal == nil || r.Refusal.Kind != netmap.Outdated {
		t.Errorf("a host of level 1 came later: %+v", r)
	}
}

// TestNextLevelIsWrittenOnlyWhereAllReadIt whoever joins, is upgraded and leaves in whatever
// order: while a member is of level 1, so are the log and the snapshots.
func TestNextLevelIsWrittenOnlyWhereAllReadIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster(t, 0)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			host, level := rapid.IntRange(1, 3).Draw(rt, "host"), rapid.IntRange(1, 2).Draw(rt, "level")
			more := &AddRange{pfx(fmt.Sprintf("10.%d.0.0/16", 100+host))}
			cmd := rapid.SampledFrom([]Command{
				admitAt(host, level), admitAt(host, level),
				{Kind: KindLeave},
				{Kind: KindAddRange, AddRange: more},
				{Kind: KindDropRange, AddRange: more},
				{Kind: KindRemove, Remove: &Remove{Target: hostID(level), IsOff: true}},
			}).Draw(rt, "command")
			cmd.Host = hostID(host)
			if refusal := cmd.CheckLevel(c.state.Level()); refusal != nil { // by the leader
				if cmd.Kind != KindDropRange || c.state.Level() != 1 {
					rt.Fatalf("%s at level %d: %v", cmd.Kind, c.state.Level(), refusal)
				}
				continue
			}
			b, err := EncodeCommand(cmd)
			c.do(cmd)
			snapshot, err2 := c.state.Encode()
			first := slices.ContainsFunc(c.state.Hosts(), func(h Host) bool { return !h.Removed && h.Level == 1 })
			one := []byte(`{"v":1,`)
			if err := errors.Join(err, err2); err != nil || first && (!bytes.HasPrefix(b, one) || !bytes.HasPrefix(snapshot, one)) {
				rt.Fatalf("%v: with a member of level 1 this is written:\n%s\n%s", err, b, snapshot)
			}
		}
	})
}

// recorded compares what this release writes with what the shipped one's test reads.
func recorded(t *testing.T, name string, c *cluster, commands []byte) {
	t.Helper()
	snapshot, err := c.state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{name + "-snapshot.json": snapshot, name + "-commands.json": commands} {
		if *updateFormats {
			if err := os.WriteFile("testdata/"+name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if old, err := os.ReadFile("testdata/" + name); err != nil || !bytes.Equal(old, b) {
			t.Errorf("%s is no more what the next release writes (%v); write it anew with -formats:\n%s", name, err, b)
		}
	}
}
