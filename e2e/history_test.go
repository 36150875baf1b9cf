package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab"
)

// TestIntegrationRangesAndHistory: an operator adds address space on one host and sees it on
// another, and asks on one host who had an address on another.
func TestIntegrationRangesAndHistory(t *testing.T) {
	s := onMembers(t)
	here, there := s.members()[0], s.members()[1]
	s.weftDoes(here, []string{"10.74.0.0/20"}, "range", "add", "10.74.0.0/20")
	eventually(t, healWithin, s.tells(there, []string{"10.74.0.0/20"}, "range", "ls"))
	s.weftRefuses(there, []string{"10.74.1.0/24", "10.74.0.0/20"}, "range", "add", "10.74.1.0/24")

	name := s.network(here, "past", "--subnet", "10.74.16.0/24")
	gone := s.run(there, name, "gone")
	s.docker(there, "rm", "-f", gone.name)
	eventually(t, healWithin, s.tells(here, []string{gone.addr.String(), gone.name, there.Name()}, "ledger", "log", "--addr", gone.addr.String()))
	eventually(t, healWithin, s.tells(there, []string{"10.74.16.0/24", here.Name()}, "ledger", "log", "--subnet", "10.74.16.0/24"))
	s.weftRefuses(here, []string{"yesterday"}, "ledger", "log", "--since", "yesterday")
}

// tells returns a check that a command's output has all of the words.
func (s *scene) tells(h *lab.Host, words []string, args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		out, err := h.Exec(ctx, append([]string{s.weft}, args...)...)
		for _, word := range words {
			if err == nil && !strings.Contains(out, word) {
				err = fmt.Errorf("weft %q does not say %q: %s", args, word, out)
			}
		}
		return err
	}
}
