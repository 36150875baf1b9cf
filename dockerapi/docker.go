package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// How long Docker may take to answer. Creating and removing networks includes
// Docker's calls to the plugin, each of which may take 5 s.
const (
	askTimeout    = 10 * time.Second
	changeTimeout = 60 * time.Second
	dialTimeout   = 5 * time.Second
)

// PluginSocket is the socket name by which our plugin is known among others: the
// "socket" of config.json.
const PluginSocket = "weft.sock"

// Errors that callers test for.
var (
	// ErrInUse: the network has containers and stays.
	ErrInUse = errors.New("has active endpoints")
	// ErrNameTaken: another network has that name.
	ErrNameTaken = errors.New("name is taken")
)

// Config says which Docker to speak to.
type Config struct {
	// Socket is the path of docker.sock as this process sees it. It need not exist
	// yet.
	Socket string
	// Drivers are names that networks of ours have as their driver, besides those
	// of enabled managed plugins that Docker lists (for a plugin that is not
	// managed: "weft").
	Drivers []string
	// Disabled includes disabled plugins: they do nothing, but have networks.
	Disabled bool
	// Retry is the first pause before the event stream is opened again; it doubles
	// up to 20 times that. 0 = 250 ms.
	Retry time.Duration
}

// Docker is the local engine. Its methods may be called concurrently; each ends
// by its own deadline, or earlier with its context.
type Docker struct {
	cfg Config

	mu  sync.Mutex
	cli *client.Client
}

// Open prepares to speak to Docker. It does not connect, so it works while Docker
// is down.
func Open(cfg Config) (*Docker, error) {
	if cfg.Socket == "" {
		return nil, errors.New("dockerapi: no path of docker.sock")
	}
	if cfg.Retry == 0 {
		cfg.Retry = 250 * time.Millisecond
	}
	d := &Docker{cfg: cfg}
	return d, d.renew()
}

// Close drops idle connections. Watches end with their contexts.
func (d *Docker) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cli.Close()
}

// renew replaces the client, and with it the negotiated version.
func (d *Docker) renew() error {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: dialTimeout}
			return dialer.DialContext(ctx, "unix", d.cfg.Socket)
		},
		DisableCompression: true,
		MaxIdleConns:       4,
		IdleConnTimeout:    30 * time.Second,
	}
	cli, err := client.New(
		client.WithHost("unix://"+d.cfg.Socket),
		client.WithHTTPClient(&http.Client{Transport: lenient{transport}, CheckRedirect: client.CheckRedirect}),
	)
	if err != nil {
		return fmt.Errorf("dockerapi: cannot speak to %s: %w", d.cfg.Socket, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cli != nil {
		d.cli.Close() //nolint:errcheck // drops idle connections, cannot fail
	}
	d.cli = cli
	return nil
}

func (d *Docker) api() *client.Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cli
}

// Version is the version of the API that is spoken with this engine.
func (d *Docker) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cli := d.api()
	if _, err := cli.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return "", fmt.Errorf("dockerapi: Docker at %s does not answer: %w", d.cfg.Socket, err)
	}
	return cli.ClientVersion(), nil
}

// OnlyIPv6 reports whether this engine makes networks without IPv4: Docker 28 is the first that does.
func (d *Docker) OnlyIPv6(ctx context.Context) (bool, error) {
	version, err := d.Version(ctx)
	var major, minor int
	if _, scan := fmt.Sscanf(version, "%d.%d", &major, &minor); err == nil && scan != nil {
		err = fmt.Errorf("dockerapi: Docker speaks API %q: %w", version, scan)
	}
	return major > 1 || major == 1 && minor >= 48, err
}

// Drivers lists the driver names of our networks: the configured ones and the
// full names of managed plugins like ours, such as weftnet/weft:latest, whatever name
// they were given.
func (d *Docker) Drivers(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	// Docker's "capability" filter wants every capability of a plugin to match, so
	// it would hide a plugin that is an IPAM driver too.
	list, err := d.api().PluginList(ctx, client.PluginListOptions{})
	if err != nil {
		return nil, fmt.Errorf("dockerapi: cannot list plugins: %w", err)
	}
	names := slices.Clone(d.cfg.Drivers)
	for _, p := range list.Items {
		if (p.Enabled || d.cfg.Disabled) && p.Config.Interface.Socket == PluginSocket && !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names, nil
}

// notFound reports whether Docker said that the thing does not exist.
func notFound(err error) bool { return errdefs.IsNotFound(err) }
