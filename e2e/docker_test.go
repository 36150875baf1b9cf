package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/lab"
)

// exhaust asks a host's agent for addresses of a subnet, as Docker does it, until it
// refuses. It does something else after every hundredth.
func (r *rig) exhaust(ctx context.Context, h *lab.Host, subnet string, meanwhile func() error) (got []ipam.AddressRelease, refusal string, err error) {
	client, done, err := r.asDocker(ctx, h)
	if err != nil {
		return nil, "", err
	}
	defer done()
	pool, err := ask[ipam.PoolResponse](ctx, client, "RequestPool", ipam.PoolRequest{AddressSpace: "weft", Pool: subnet})
	if err != nil {
		return nil, "", err
	}
	for len(got) < 20000 {
		a, err := ask[ipam.AddressResponse](ctx, client, "RequestAddress", ipam.AddressRequest{PoolID: pool.PoolID})
		if err != nil {
			return got, err.Error(), nil
		}
		addr, _, _ := strings.Cut(a.Address, "/")
		got = append(got, ipam.AddressRelease{PoolID: pool.PoolID, Address: addr})
		if len(got)%100 == 0 {
			if err := meanwhile(); err != nil {
				return got, "", err
			}
		}
	}
	return got, "", errors.New("20000 addresses were handed out")
}

// release gives addresses back as Docker does it.
func (r *rig) release(ctx context.Context, h *lab.Host, all []ipam.AddressRelease) error {
	client, done, err := r.asDocker(ctx, h)
	if err != nil {
		return err
	}
	defer done()
	var errs []error
	for _, one := range all {
		_, err := ask[struct{}](ctx, client, "ReleaseAddress", one)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// asDocker is a client of the plugin's socket.
func (r *rig) asDocker(ctx context.Context, h *lab.Host) (client *http.Client, done func(), err error) {
	socket, closeDir, err := r.socket(ctx, h)
	if err != nil {
		return nil, nil, err
	}
	client = &http.Client{Timeout: 2 * answerWithin, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	return client, func() { client.CloseIdleConnections(); closeDir() }, nil
}

// ask makes one call of the IPAM protocol.
func ask[Answer any](ctx context.Context, client *http.Client, method string, question any) (out Answer, err error) {
	body, err := json.Marshal(question)
	if err != nil {
		return out, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weft/IpamDriver."+method, strings.NewReader(string(body)))
	if err != nil {
		return out, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return out, err
	}
	var failure struct{ Error string }
	if err := json.Unmarshal(answer, &failure); err != nil {
		return out, fmt.Errorf("%s: %w: %s", resp.Status, err, answer)
	}
	if failure.Error != "" {
		return out, errors.New(failure.Error)
	}
	return out, json.Unmarshal(answer, &out)
}
