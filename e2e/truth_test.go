package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/netmap"
)

// attached is one running container's end of a network.
type attached struct {
	host     string
	name     string
	endpoint netmap.EndpointID
	addr     netip.Addr
}

func (a attached) String() string {
	return fmt.Sprintf("%s: %s on %s, endpoint %.12s", a.addr, a.name, a.host, a.endpoint)
}

// inspect reads something of a host's Docker from its API, which takes less than to start
// a docker command.
func inspect[Answer any](ctx context.Context, h *lab.Host, path string) (out Answer, err error) {
	text, err := request(ctx, h, http.MethodGet, path, "")
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}

// request sends a request to the API of a host's Docker. The error has what Docker says.
func request(ctx context.Context, h *lab.Host, method, path, body string) ([]byte, error) {
	socket, err := h.DockerSocket()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusBadRequest {
		return nil, errors.Join(fmt.Errorf("docker of %s: %s %s: %s: %s", h.Name(), method, path, resp.Status, text), err)
	}
	return text, nil
}

// dockerSays lists the containers that a host's Docker runs on a network. It asks
// the API, which tells of all in one answer.
func dockerSays(ctx context.Context, h *lab.Host, network string) ([]attached, error) {
	list, err := inspect[[]struct {
		Names           []string
		NetworkSettings struct {
			Networks map[string]struct {
				IPAddress  string
				EndpointID netmap.EndpointID
			}
		}
	}](ctx, h, "/containers/json")
	if err != nil {
		return nil, err
	}
	var out []attached
	for _, c := range list {
		end, ok := c.NetworkSettings.Networks[network]
		if !ok || end.IPAddress == "" { // it is being started or stopped
			continue
		}
		addr, err := netip.ParseAddr(end.IPAddress)
		if err != nil {
			return nil, err
		}
		out = append(out, attached{h.Name(), strings.TrimPrefix(c.Names[0], "/"), end.EndpointID, addr})
	}
	return out, nil
}

// dockersSay asks all members at once.
func (s *scene) dockersSay(ctx context.Context, network string) ([]attached, error) {
	var mu sync.Mutex
	var out []attached
	err := each(s.members(), func(h *lab.Host) error {
		some, err := dockerSays(ctx, h, network)
		mu.Lock()
		defer mu.Unlock()
		out = append(out, some...)
		return err
	})
	slices.SortFunc(out, func(a, b attached) int {
		return cmp.Or(a.addr.Compare(b.addr), strings.Compare(a.host+a.name, b.host+b.name))
	})
	return out, err
}

// doubles returns the pairs with the same address. The list is sorted by address.
func doubles(list []attached) (out [][2]attached) {
	for i := 1; i < len(list); i++ {
		if list[i].addr == list[i-1].addr {
			out = append(out, [2]attached{list[i-1], list[i]})
		}
	}
	return out
}

// known is nil when every member's agent knows the endpoint of every container that
// the members' Dockers run on a network, and no two have one address. It returns them.
func (s *scene) known(ctx context.Context, network string) ([]attached, error) {
	boxes, err := s.dockersSay(ctx, network)
	if err != nil {
		return nil, err
	}
	if two := doubles(boxes); len(two) > 0 {
		return boxes, fmt.Errorf("docker runs two containers with one address: %s", two)
	}
	return boxes, each(s.members(), func(h *lab.Host) error {
		report, err := s.report(ctx, h)
		if err != nil {
			return err
		}
		said := told4(report, network)
		for _, e := range boxes {
			if !slices.Contains(said, e) {
				return fmt.Errorf("the agent of %s does not know %v", h.Name(), e)
			}
		}
		return nil
	})
}

// told4 are a report's endpoints of a network, as Docker would list them.
func told4(r *api.Report, network string) (out []attached) {
	n, _ := find(r, network)
	for _, e := range n.Endpoints {
		out = append(out, attached{r.HostName(e.Host), e.Name, e.ID, e.V4})
	}
	return out
}
