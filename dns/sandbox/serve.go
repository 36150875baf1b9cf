package sandbox

import (
	"context"
	"errors"

	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/dns/server"
	"github.com/weftnet/weft/dns/takeover"
	"github.com/weftnet/weft/netns"
)

// inCharge is a DNS server in a container's namespace and the rules that lead the container's
// queries to it.
type inCharge struct {
	server   *server.Server
	takeover *takeover.Takeover
}

// Serve starts a DNS server in a container's namespace and puts it in charge.
func Serve(ns *netns.Namespace, cfg server.Config) (Server, error) {
	s, err := server.Serve(ns, cfg)
	if err != nil {
		return nil, err
	}
	udp, tcp := s.Ports()
	t, err := takeover.Install(ns, udp, tcp)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return inCharge{s, t}, nil
}

// Refresh implements Server.
func (c inCharge) Refresh() error { return c.takeover.Refresh() }

// AskDocker implements Server.
func (c inCharge) AskDocker(ctx context.Context, query *wire.Msg) (*wire.Msg, error) {
	return c.server.AskDocker(ctx, query)
}

// Close implements Server. The rules go first, so that no query meets a closed port.
func (c inCharge) Close() error { return errors.Join(c.takeover.Close(), c.server.Close()) }

// Stop implements Server.
func (c inCharge) Stop() error { return errors.Join(c.takeover.Leave(), c.server.Close()) }
