package dns

import (
	wire "github.com/miekg/dns"

	"github.com/weftnet/weft/netmap"
)

// For returns Answer for a container that is on these networks when it asks.
func (n *Names) For(networks func() []netmap.NetworkID) func(query *wire.Msg) *wire.Msg {
	return func(query *wire.Msg) *wire.Msg { return n.Answer(Asker{Networks: networks()}, query) }
}

// ForHost is Answer for the host itself.
func (n *Names) ForHost(query *wire.Msg) *wire.Msg { return n.Answer(Asker{Everything: true}, query) }
