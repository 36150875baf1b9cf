package lab

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCuts(t *testing.T) {
	hosts := []int{1, 2, 3}
	off := withCut(nil, Off(2), hosts)
	want := []Arrow{{0, 2}, {1, 2}, {2, 0}, {2, 1}, {2, 3}, {3, 2}}
	if diff := cmp.Diff(want, off); diff != "" {
		t.Errorf("off (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, withCut(off, Between(1, 2), hosts)); diff != "" {
		t.Errorf("a cut within a cut changed it (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Arrow{{0, 2}, {2, 0}, {2, 3}, {3, 2}}, withoutCut(off, Between(2, 1))); diff != "" {
		t.Errorf("one link healed (-want +got):\n%s", diff)
	}
	both := withCut(withCut(nil, OneWay(1, 2), hosts), Between(1, 3), hosts)
	if diff := cmp.Diff([]Arrow{{1, 2}, {1, 3}, {3, 1}}, both); diff != "" {
		t.Errorf("one way and between (-want +got):\n%s", diff)
	}
	if left := withoutCut(both, Off(1)); len(left) != 0 {
		t.Errorf("healing a host left %v", left)
	}
	if left := withoutCut(both, OneWay(2, 1)); len(left) != 3 {
		t.Errorf("healing the open direction left %v", left)
	}
	if c := OneWay(1, 2); !c.Stops(1, 2) || c.Stops(2, 1) || !Off(2).Stops(3, 2) {
		t.Error("what a cut stops")
	}
	said := []string{Off(1).String(), Between(1, 2).String(), OneWay(1, 2).String()}
	if diff := cmp.Diff([]string{"host1 off", "host1 and host2 from each other", "host1 to host2"}, said); diff != "" {
		t.Error(diff)
	}
}

func TestRuleset(t *testing.T) {
	want := `table bridge cuts
delete table bridge cuts
table bridge cuts {
  chain forward {
    type filter hook forward priority 0
    iifname "host1" oifname "host2" drop
  }
  chain input {
    type filter hook input priority 0
    iifname "host1" drop
  }
  chain output {
    type filter hook output priority 0
    oifname "host1" drop
  }
}
`
	if diff := cmp.Diff(want, ruleset([]Arrow{{0, 1}, {1, 0}, {1, 2}})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
