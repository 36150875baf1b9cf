package netmap

import (
	"strconv"
	"strings"
)

// HostName is the name that people know a host by: what it says itself, else what the
// ledger has, else the beginning of its id.
func (v *View) HostName(id HostID) string {
	h, _ := v.Host(id)
	switch {
	case h.Fact.Name != "":
		return h.Fact.Name
	case h.Entry.Name != "":
		return h.Entry.Name
	}
	return id.Short()
}

// FindNetwork finds a network by its name or number. One that exists is preferred to removed
// ones of the same name.
func (v *View) FindNetwork(word string) (n Network, found bool) {
	for _, one := range v.Networks {
		if one.Name != word && strconv.FormatUint(uint64(one.ID), 10) != word {
			continue
		}
		if !found || n.Retired && !one.Retired {
			n, found = one, true
		}
	}
	return n, found
}

// FindHost finds a host by its name, its id or the first characters of that, four at
// least. Of hosts with one name, members come before those that were removed. The error is
// a *Refusal: Unknown, or BadInput where a word is more than one host.
func (v *View) FindHost(word string) (HostID, error) {
	var members, removed []HostID
	for _, h := range v.Hosts {
		switch {
		case v.HostName(h.ID) != word && h.Entry.Name != word && (len(word) < 4 || !strings.HasPrefix(h.ID.String(), word)):
		case h.Entry.Removed:
			removed = append(removed, h.ID)
		default:
			members = append(members, h.ID)
		}
	}
	found := members
	if len(members) == 0 {
		found = removed
	}
	switch len(found) {
	case 0:
		return HostID{}, Refuse(Unknown, "there is no host %q in this cluster; weft status lists them", word)
	case 1:
		return found[0], nil
	}
	ids := make([]string, len(found))
	for i, id := range found {
		ids[i] = id.String()
	}
	return HostID{}, Refuse(BadInput, "%q is more than one host: %s; give the id of one", word, strings.Join(ids, ", "))
}
