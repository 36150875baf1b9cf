package mesostest

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// HealthCheck is one of the health checks of an app.
type HealthCheck struct {
	Protocol  string `json:"protocol"` // HTTP, TCP, MESOS_HTTP, MESOS_TCP or COMMAND
	Path      string `json:"path"`
	Port      int    `json:"port"`
	PortIndex int    `json:"portIndex"`
	Command   struct {
		Value string `json:"value"`
	} `json:"command"`
	TimeoutSeconds int `json:"timeoutSeconds"`
}

// Check is a health check of one task: exactly one of URL, Address and Command is set.
type Check struct {
	URL     string
	Address string // that a TCP connection is made to
	Command string // that a shell runs in the container
	Inside  bool   // by Mesos in the container's network namespace; otherwise by Marathon, from a master
}

// Check says what a health check of a task does: where Marathon, or Mesos for it, looks.
func (r Running) Check(h HealthCheck) (Check, error) {
	protocol, inside := strings.CutPrefix(cmp.Or(h.Protocol, "HTTP"), "MESOS_")
	if protocol == "COMMAND" {
		return Check{Command: h.Command.Value}, nil
	}
	host, port, err := r.at(h, inside)
	if err != nil {
		return Check{}, err
	}
	address := net.JoinHostPort(host, strconv.Itoa(port))
	switch protocol {
	case "TCP":
		return Check{Address: address, Inside: inside}, nil
	case "HTTP", "HTTPS":
		return Check{URL: strings.ToLower(protocol) + "://" + address + "/" + strings.TrimPrefix(h.Path, "/"), Inside: inside}, nil
	}
	return Check{}, fmt.Errorf("unknown protocol of a health check: %s", h.Protocol)
}

// at is the host and the port of a check. Marathon takes the container's address on a container network and the agent's
// elsewhere, and in both cases the host's port where there is one (NetworkInfo.scala, HealthCheck.scala).
func (r Running) at(h HealthCheck, inside bool) (host string, port int, err error) {
	switch host = r.Agent.Hostname(); {
	case inside:
		host = "127.0.0.1"
	case r.Task.Container.Network == "USER":
		host = r.Addr.String()
	}
	if h.Port != 0 {
		return host, h.Port, nil
	}
	if h.PortIndex < 0 || h.PortIndex >= len(r.Task.Assigned) {
		return "", 0, errors.New("the health check is of a port that the app has not")
	}
	p := r.Task.Assigned[h.PortIndex]
	if inside {
		return host, p.ContainerPort, nil
	}
	return host, cmp.Or(p.HostPort, p.ContainerPort), nil
}
