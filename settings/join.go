package settings

import (
	"strings"

	"github.com/weftnet/weft/discover"
)

// parseJoin checks the entries; finish gives those a port that name none.
func parseJoin(s *Settings, v string) error {
	s.Join = nil
	if v == "" {
		return nil
	}
	for word := range strings.SplitSeq(v, ",") {
		if _, err := discover.Parse(word, 1); err != nil {
			return err
		}
		s.Join = append(s.Join, word)
	}
	return nil
}
