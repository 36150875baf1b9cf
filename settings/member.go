package settings

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const wantsNetworks = "all, or names of networks like overlay,web"

// networkForm is what Weft allows as a network's name.
var networkForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// MemberOf are the networks that a host takes part in without containers.
type MemberOf struct {
	All   bool
	Names []string
}

// Has reports whether a network is one of them. A network without a name is one of all only.
func (m MemberOf) Has(network string) bool {
	return m.All || network != "" && slices.Contains(m.Names, network)
}

func parseMemberOf(s *Settings, v string) error {
	if v == "all" {
		s.MemberOf = MemberOf{All: true}
		return nil
	}
	for name := range strings.SplitSeq(v, ",") {
		if v == "" {
			break
		}
		if name = strings.TrimSpace(name); !networkForm.MatchString(name) || name == "all" {
			return fmt.Errorf("%q is no name of a network", name)
		}
		if !slices.Contains(s.MemberOf.Names, name) {
			s.MemberOf.Names = append(s.MemberOf.Names, name)
		}
	}
	return nil
}
