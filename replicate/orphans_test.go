package replicate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAbsenceMustLast(t *testing.T) {
	begin := time.Unix(1000, 0)
	a := absence{}
	for _, c := range []struct {
		after   time.Duration
		present map[string]bool
		want    []string
	}{
		{0, map[string]bool{"net": true}, nil},
		{orphanAfter - time.Second, map[string]bool{"net": true}, nil},
		{orphanAfter, map[string]bool{}, []string{"ep"}},
		{orphanAfter + 1, map[string]bool{"ep": true}, nil}, // it came back: from the beginning
		{2 * orphanAfter, map[string]bool{}, []string{"net"}},
		{4 * orphanAfter, map[string]bool{}, []string{"ep", "net"}},
	} {
		if diff := cmp.Diff(c.want, a.overdue(begin.Add(c.after), []string{"net", "ep"}, c.present)); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", c.after, diff)
		}
	}
	if got := a.overdue(begin.Add(9*orphanAfter), nil, nil); got != nil || len(a) != 0 {
		t.Errorf("nothing is wanted any more, and %v is remembered", a)
	}
}
