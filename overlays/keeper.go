package overlays

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/follow"
	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/turn"
)

const (
	// every is how often the file is read again: an overlay that is added appears within that time.
	every = 11003 * time.Millisecond
	// retry is the pause while a network is on its way.
	retry = 1993 * time.Millisecond
)

// Docker is the Docker Engine of this host.
type Docker interface {
	Networks(ctx context.Context) ([]dockerapi.Network, error)
	Drivers(ctx context.Context) ([]string, error)
	CreateReplica(ctx context.Context, spec dockerapi.ReplicaSpec) (string, error)
	OnlyIPv6(ctx context.Context) (bool, error)
}

// KeeperConfig says what a Keeper is made of.
type KeeperConfig struct {
	Path      string // of the overlay file; empty: there are no overlays
	CNIDir    string // empty: no CNI configuration is written
	Admin     bool   // agents can be removed over HTTP
	Replicate bool   // networks of other hosts appear here by themselves
	Self      netmap.HostID
	Facts     interface {
		follow.Source
		Synced() bool
	}
	Docker Docker // nil: this host has none
	// InHost runs a function that sees the host's files; nil: all do. NotYet is its error while it cannot.
	InHost  func(fn func() error) error
	NotYet  error
	Devices Devices
	// Say tells the cluster what became of the overlays here.
	Say func(text string)
	// Remove removes a host from the cluster by the rules of `weft host rm`.
	Remove func(ctx context.Context, host netmap.HostID) error
	// Problem shows a problem under a topic; "" ends it.
	Problem func(topic, sentence string)
	Log     *slog.Logger
}

// Keeper makes networks of the overlays. Run is called once; the handlers are safe for concurrent use.
type Keeper struct {
	cfg  KeeperConfig
	said string    // to the cluster; used by Run alone
	deaf bool      // Docker did not answer at the last look; used by Run alone
	one  turn.Turn // of answers with the whole state

	mu       sync.Mutex
	config   *Config // the last that could be read; nil: none
	attempts int     // since all overlays were well
}

// New makes a Keeper that Run sets to work.
func New(cfg KeeperConfig) *Keeper {
	if cfg.InHost == nil {
		cfg.InHost = func(fn func() error) error { return fn() }
	}
	return &Keeper{cfg: cfg, one: turn.New()}
}

// Run makes networks of the overlays until ctx ends. It reads the file again now and then.
func (k *Keeper) Run(ctx context.Context) {
	if k.cfg.Path == "" {
		return
	}
	of := func(c netmap.Changes) bool { return len(c.Networks) > 0 || c.Subnets }
	for look := range follow.Facts(ctx, k.cfg.Facts, follow.When{Every: every, Of: of}) {
		err := k.load()
		if err != nil && errors.Is(err, k.cfg.NotYet) {
			look.Again(retry)
			continue
		}
		if err != nil {
			k.cfg.Problem("overlay file", fmt.Sprintf("WEFT_OVERLAYS=%s: %v; mend the file, it is read again every %v; until then the overlays stay as they are", k.cfg.Path, err, every.Round(time.Second)))
			continue
		}
		k.cfg.Problem("overlay file", "")
		if c := k.loaded(); c != nil && k.cfg.Facts.Synced() {
			all := k.look(ctx, c, look.View())
			if ctx.Err() != nil {
				return
			}
			if k.tell(all) {
				look.Again(retry)
			}
		}
	}
}

// load reads the overlay file.
func (k *Keeper) load() error {
	var raw []byte
	err := k.cfg.InHost(func() (err error) {
		raw, err = ReadFile(k.cfg.Path)
		return err
	})
	if err != nil {
		return err
	}
	c, err := Parse(raw)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.config == nil && len(c.Ignored) > 0 {
		k.cfg.Log.Info("the overlay file has what Weft does not need: the cluster's ledger keeps what is decided", "keys", strings.Join(c.Ignored, ", "))
	}
	k.config = c
	return nil
}

func (k *Keeper) loaded() *Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.config
}

// patience is how many looks in a row come soon after one another.
const patience = 30

// tell says what became of the overlays, to the cluster and to the operator. It reports whether one is on its way.
func (k *Keeper) tell(all map[string]*Status) (soon bool) {
	var failed []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		soon = soon || s.Status == StatusConfiguring
		if s.Status == StatusFailed {
			failed = append(failed, "overlay "+name+": "+s.Error)
		}
	}
	k.mu.Lock()
	k.attempts++
	if len(failed) == 0 && !soon {
		k.attempts = 0
	}
	soon = soon && k.attempts < patience
	k.mu.Unlock()
	k.cfg.Problem("overlays", strings.Join(failed, "; "))
	if text := writeStatuses(all); text != k.said {
		k.said = text
		k.cfg.Say(text)
	}
	return soon
}

// look brings each enabled overlay nearer to what it shall be, and says where it is.
func (k *Keeper) look(ctx context.Context, c *Config, view *netmap.View) map[string]*Status {
	out := map[string]*Status{}
	here, err := k.docker(ctx)
	deaf := k.deaf
	k.deaf = err != nil
	for _, o := range c.Overlays {
		if !o.Enabled {
			continue
		}
		s := &Status{Status: StatusFailed}
		switch {
		case err == nil:
			*s = k.overlay(ctx, o, view, here)
		case !deaf: // it may be restarting
			s.Status = StatusConfiguring
		default:
			s.Error = err.Error()
		}
		if n, exists := networkOf(view, o); exists && k.cfg.CNIDir != "" {
			if err := k.cfg.InHost(func() error { return writeCNI(k.cfg.CNIDir, n.Name) }); err != nil {
				*s = failed("%v", err)
			}
		}
		out[o.Name] = s
	}
	return out
}

// docker lists this host's Docker networks.
func (k *Keeper) docker(ctx context.Context) ([]dockerapi.Network, error) {
	if k.cfg.Docker == nil {
		return nil, errors.New("this host has no Docker")
	}
	return k.cfg.Docker.Networks(ctx)
}

func failed(format string, args ...any) Status {
	return Status{StatusFailed, fmt.Sprintf(format, args...)}
}

// overlay makes the network of one overlay, unless it is there already, here or on another host.
func (k *Keeper) overlay(ctx context.Context, o Overlay, view *netmap.View, here []dockerapi.Network) Status {
	if err := k.families(ctx, o); err != nil {
		return failed("%v", err)
	}
	n, decided := view.FindNetwork(o.Name)
	decided = decided && !n.Retired
	i := slices.IndexFunc(here, func(d dockerapi.Network) bool { return d.Name == o.Name })
	switch {
	case i >= 0 && !here[i].Ours:
		return failed("Docker on this host has a network of that name with the driver %s; rename or remove one of them", here[i].Driver)
	case decided && differs(view, n, o) != "":
		return failed("the cluster's network of that name %s: overlays do not change; undo it in the file, or add the overlay under another name", differs(view, n, o))
	case decided && i >= 0:
		return Status{Status: StatusOK}
	case i >= 0, decided && k.cfg.Replicate:
		return Status{Status: StatusConfiguring} // it gets its name, or appears here
	}
	err := free(view, o)
	if err == nil {
		err = k.create(ctx, o)
	}
	if err != nil {
		return failed("%v", err)
	}
	return Status{Status: StatusConfiguring}
}

// families says why this host's Docker cannot have a network with the families of an overlay.
func (k *Keeper) families(ctx context.Context, o Overlay) error {
	if o.v4.IsValid() {
		return nil
	}
	only, err := k.cfg.Docker.OnlyIPv6(ctx)
	if err == nil && !only {
		err = errors.New("a network without IPv4 needs Docker 28, and this host's is older: give the overlay a subnet too, or upgrade Docker")
	}
	return err
}

// free says which network has a subnet of an overlay. One without a name may be this one.
func free(view *netmap.View, o Overlay) error {
	for _, p := range o.subnets() {
		if other, taken := view.NetworkOf(p); taken && other.Name != "" && other.Name != o.Name {
			return fmt.Errorf("subnet %s is that of network %s; name the overlay so, or give it another subnet", p, otherName(other))
		}
	}
	return nil
}

func otherName(n netmap.Network) string {
	if n.Retired {
		return n.Name + ", which was removed and goes with its last container"
	}
	return n.Name
}

// create makes the network of an overlay as a user would. Hosts that do so at the same moment make one.
func (k *Keeper) create(ctx context.Context, o Overlay) error {
	drivers, err := k.cfg.Docker.Drivers(ctx)
	if err != nil {
		return err
	}
	if len(drivers) == 0 {
		return errors.New("this host's Docker does not list Weft's plugin yet")
	}
	spec := dockerapi.ReplicaSpec{Name: o.Name, Driver: drivers[0], Shown: netmap.DockerNetwork{IPv6: o.v6.IsValid(), Options: map[string]string{}}}
	var blocks []string
	for _, p := range o.subnets() {
		spec.Shown.Pools = append(spec.Shown.Pools, netmap.DockerPool{Subnet: p})
		blocks = append(blocks, fmt.Sprintf("/%d", o.block(p)))
	}
	spec.Shown.Options["weft.block"] = strings.Join(blocks, ",")
	if !k.cfg.Replicate {
		spec.Shown.Options["weft.network"] = o.Name
	}
	k.cfg.Log.Info("an overlay becomes a network", "name", o.Name, "subnets", o.subnets())
	if _, err := k.cfg.Docker.CreateReplica(ctx, spec); !errors.Is(err, dockerapi.ErrNameTaken) {
		return err
	}
	return nil // the next look finds out who has it
}
