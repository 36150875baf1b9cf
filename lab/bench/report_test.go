package bench

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 100, 2}, 3},
	} {
		given := append([]float64{}, c.values...)
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", given, got, c.want)
		}
		if diff := cmp.Diff(given, append([]float64{}, c.values...)); diff != "" {
			t.Errorf("median reorders what it is given (-want +got):\n%s", diff)
		}
	}
}

// The ratio is the median of the rounds' ratios. The ratio of the medians would be
// 2.00/2.00 here, though the first path was the slower one in most rounds.
func TestRatioIsTakenWithinRounds(t *testing.T) {
	all := []sample{{"a": 1, "b": 2}, {"a": 2, "b": 4}, {"a": 3, "b": 1}}
	if diff := cmp.Diff(Ratio{Median: 0.5, Low: 0.5, High: 3}, ratio(all, "a", "b")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// One round in which something else ran does not widen the range.
func TestRatioLeavesOutTheOuterHalf(t *testing.T) {
	var all []sample
	for _, v := range []float64{9, 1, 5, 2, 4, 3, 6, 8, 7} {
		all = append(all, sample{"a": v, "b": 1})
	}
	if diff := cmp.Diff(Ratio{Median: 5, Low: 3, High: 7}, ratio(all, "a", "b")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRatioWithoutABase(t *testing.T) {
	for name, all := range map[string][]sample{
		"no rounds":       nil,
		"a base of zero":  {{"a": 1, "b": 0}},
		"a base not seen": {{"a": 1}},
	} {
		if got := ratio(all, "a", "b"); got != (Ratio{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := ratio([]sample{{"a": 1, "b": 0}, {"a": 6, "b": 2}}, "a", "b"); got != (Ratio{Median: 3, Low: 3, High: 3}) {
		t.Errorf("one round of two has a base: %+v", got)
	}
}

func TestFiguresKeepTheirOrder(t *testing.T) {
	got := figures([]string{"b", "a"}, []string{"a"}, []sample{{"a": 2, "b": 4}, {"a": 4, "b": 4}})
	want := []Figure{
		{Of: "b", Median: 4, To: map[string]Ratio{"a": {Median: 1.5, Low: 1, High: 2}}},
		{Of: "a", Median: 3, To: map[string]Ratio{"a": {Median: 1, Low: 1, High: 1}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// example is what two rounds might have measured.
func example() samples {
	over := func(weft, swarm, vxlan, underlay float64) sample {
		return sample{overWeft: weft, overSwarm: swarm, overVXLAN: vxlan, overUnderlay: underlay, fromHost: weft}
	}
	on := func(weft, swarm, own, bridge, none float64) sample {
		return sample{overWeft: weft, overSwarm: swarm, onOwnBridge: own, onBridge: bridge, onNone: none}
	}
	calls := func(bare, one, back, many, manyBack float64) sample {
		return sample{oneSync: bare, request: one, release: back, requestMany: many, releaseMany: manyBack}
	}
	return samples{
		throughput: []sample{over(9e9, 9e9, 10e9, 12e9), over(10e9, 9e9, 10e9, 11e9)},
		p50:        []sample{over(12, 12, 10, 8), over(11, 12, 10, 8)},
		p99:        []sample{over(30, 40, 20, 10), over(30, 40, 20, 10)},
		addressP50: []sample{calls(100, 150, 120, 800, 700), calls(100, 170, 120, 800, 700)},
		addressP99: []sample{calls(1000, 1500, 1200, 2000, 1900), calls(1000, 1500, 1200, 2000, 1900)},
		addressRate: []sample{
			{request: 5000, requestMany: 40000, release: 6000, releaseMany: 60000},
			{request: 5000, requestMany: 50000, release: 6000, releaseMany: 60000},
		},
		processor: []sample{{requestMany: 90, releaseMany: 64}, {requestMany: 70, releaseMany: 64}},
		grants:    []sample{{oneSync: 100, waitsGrant: 900}, {oneSync: 100, waitsGrant: 1100}},
		connects:  []sample{{byWeft: 0.011, byBuiltIn: 0.010}, {byWeft: 0.011, byBuiltIn: 0.010}},
		reached:   []sample{{overWeft: 0.4, overSwarm: 0.5}, {overWeft: 0.4, overSwarm: 0.5}},
		found:     []sample{{overWeft: 0.15, overSwarm: 0.45}, {overWeft: 0.15, overSwarm: 0.45}},
		gone:      []sample{{overWeft: 0.1, overSwarm: 0.2}, {overWeft: 0.1, overSwarm: 0.2}},
		lookups: []sample{
			{ownName: 50, dockersName: 100, throughWeft: 250, throughDocker: 200},
			{ownName: 50, dockersName: 100, throughWeft: 250, throughDocker: 200},
		},
		starts: []sample{on(0.5, 0.6, 0.4, 0.32, 0.3), on(0.5, 0.5, 0.4, 0.32, 0.3)},
	}
}

func TestSummaryComparesWithWhatEachIsJudgedBy(t *testing.T) {
	r := summarize(Machine{Rounds: 2}, example())
	for _, c := range []struct {
		what string
		all  []Figure
		of   []string
		base string
	}{
		{"throughput", r.Throughput, paths, overVXLAN},
		{"p50", r.P50, paths, overVXLAN},
		{"p99", r.P99, paths, overVXLAN},
		{"docker run", r.DockerRun, networks, onOwnBridge},
	} {
		var of []string
		for _, f := range c.all {
			of = append(of, f.Of)
			for _, base := range []string{c.base, overSwarm} {
				if f.To[base] == (Ratio{}) {
					t.Errorf("%s of %s has no ratio to %s", c.what, f.Of, base)
				}
			}
			if f.Of == c.base && f.To[c.base] != (Ratio{Median: 1, Low: 1, High: 1}) {
				t.Errorf("%s of %s to itself is %+v", c.what, f.Of, f.To[c.base])
			}
		}
		if diff := cmp.Diff(c.of, of); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}
