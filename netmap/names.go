package netmap

import "cmp"

// Bounds of an EndpointName.
const (
	MaxAliases  = 128
	MaxServices = 64
)

// EndpointName is how the container of an endpoint is called, and what else its names lead to.
// Docker tells it some time after the endpoint was plugged, so it is a record of its own: what
// forwards is announced once. The slices are shared and must not be changed.
type EndpointName struct {
	Endpoint EndpointID
	Name     string // the container's; never empty in a record

	Aliases   []string  // of the container on this network
	Hostname  string    // in the container
	Short     string    // the first 12 digits of the container's id
	App       string    // MARATHON_APP_ID of the container's environment, as it is there
	Services  []Service // ports that the container exposes or publishes
	Unhealthy bool      // its Docker health check fails
}

// Service is a port of a container.
type Service struct {
	Port     uint16
	Protocol Protocol
}

// Protocol is the transport protocol of a Service.
type Protocol uint8

// The protocols that Docker knows, by their numbers in IP.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is the protocol as it is written in a port of Docker's, such as tcp.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return "unknown"
}

// Facts are the records of an endpoint that is called so. Without a name there is only that of
// the endpoint.
func (n EndpointName) Facts(e Endpoint) map[Key]any {
	facts := map[Key]any{EndpointKey(e.ID): e}
	if n.Name != "" {
		n.Endpoint = e.ID
		facts[NameKey(e.ID)] = n
	}
	return facts
}

// CompareServices orders services by protocol and port.
func CompareServices(a, b Service) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

func appendEndpointName(b []byte, n EndpointName) []byte {
	b = appendUvarint(appendString(b, n.Name), uint64(len(n.Aliases)))
	for _, alias := range n.Aliases {
		b = appendString(b, alias)
	}
	b = appendString(appendString(appendString(b, n.Hostname), n.Short), n.App)
	b = appendUvarint(b, uint64(len(n.Services)))
	for _, s := range n.Services {
		b = appendUvarint(append(b, byte(s.Protocol)), uint64(s.Port))
	}
	return appendBool(b, n.Unhealthy)
}

func (r *reader) endpointName(id EndpointID) EndpointName {
	n := EndpointName{Endpoint: id, Name: r.name()}
	for range r.count(MaxAliases) {
		n.Aliases = append(n.Aliases, r.name())
	}
	n.Hostname, n.Short, n.App = r.name(), r.name(), r.name()
	for range r.count(MaxServices) {
		s := Service{Protocol: Protocol(r.byte()), Port: uint16(r.number(1<<16 - 1))}
		n.Services = append(n.Services, s)
	}
	n.Unhealthy = r.bool()
	return n
}
