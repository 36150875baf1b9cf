package plugin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/gossip"
)

// TestInventedHostsAreFewProblems: the last that were refused are told of, and how many
// there are.
func TestInventedHostsAreFewProblems(t *testing.T) {
	var all []gossip.Refused
	for i := range 200 {
		all = append(all, gossip.Refused{Text: fmt.Sprintf("host %d", i), Last: time.Unix(int64(1000+i), 0)})
	}
	got := refused(all)
	if len(got) != maxRefused+1 || got[0] != "host 199" || !strings.Contains(got[maxRefused], "195 hosts more") {
		t.Errorf("%q", got)
	}
	if got := refused(all[:2]); len(got) != 2 {
		t.Errorf("%q", got)
	}
}
