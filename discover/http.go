package discover

import (
	"context"
	"net"
	"net/url"

	"github.com/weftnet/weft/mesos"
)

// maxBody is how many bytes a master may answer, enough for some thousand Mesos agents.
const maxBody = 16 << 20

func (p *Peers) client() mesos.Client {
	dialer := net.Dialer{Resolver: p.cfg.Resolver}
	return mesos.Client{Dial: dialer.DialContext, MaxBody: maxBody}
}

// agents returns the active agents of a Mesos cluster, at the addresses with which they
// registered, and how many have yet to register with a newly elected master.
func (p *Peers) agents(ctx context.Context, e Entry) (hosts []Entry, absent int, err error) {
	agents, err := p.client().Agents(ctx, e.url)
	if err != nil {
		return nil, 0, err
	}
	var words []string
	for _, a := range agents {
		if a.Recovered {
			absent++
		} else {
			words = append(words, a.Address)
		}
	}
	hosts, err = hostsIn(words, p.cfg.Self.Port())
	return hosts, absent, err
}

// appHosts returns the hosts on which the tasks of a Marathon app run. The ports of the
// tasks are not Weft's.
func (p *Peers) appHosts(ctx context.Context, e Entry) ([]Entry, error) {
	words, err := p.client().TaskHosts(ctx, &url.URL{Scheme: e.url.Scheme, Host: e.url.Host}, e.url.Path)
	if err != nil {
		return nil, err
	}
	return hostsIn(words, p.cfg.Self.Port())
}
