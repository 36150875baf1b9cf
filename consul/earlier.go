package consul

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/netmap"
)

// Bucket is the part of the store that says where this host has registered services.
const Bucket = "consul"

// Disk is that part.
type Disk interface {
	Load() (map[string][]byte, error)
	Commit(set map[string][]byte, del ...string) error
}

// patience is how long an agent tries to deregister what an earlier one registered in another
// Consul, or under another identity. A Consul that is gone for good has no services either.
const patience = 10 * time.Minute

// earlier has the keys of where earlier agents of this host registered services, but where this
// one does.
type earlier struct {
	keys  []string
	began time.Time
}

// keyOf says who registers where.
func keyOf(host netmap.HostID, url string) string { return host.String() + " " + url }

// earlier reads where earlier agents registered services, and writes down where this one will.
func (r *Registrar) earlier() *earlier {
	out := &earlier{began: time.Now()}
	kept, err := r.cfg.Disk.Load()
	own := keyOf(r.cfg.Self, r.cfg.URL)
	if _, there := kept[own]; err == nil && !there && r.cfg.URL != "" {
		err = r.cfg.Disk.Commit(map[string][]byte{own: []byte("1")})
	}
	if err != nil {
		r.cfg.Log.Warn("the disk does not say where services were registered: those of an earlier setting stay in Consul", "err", err)
	}
	delete(kept, own)
	out.keys = slices.Sorted(maps.Keys(kept))
	return out
}

// forget deregisters what earlier agents registered elsewhere, and gives up after a while.
func (b *earlier) forget(ctx context.Context, r *Registrar) {
	b.keys = slices.DeleteFunc(b.keys, func(key string) bool {
		_, err := deregisterAll(ctx, key, r.cfg.State, r.cfg.Dial, false)
		if err != nil && time.Since(b.began) < patience {
			return false
		}
		if err != nil {
			r.cfg.Log.Error("services that this host registered before stay in Consul", "err", err)
		}
		err = r.cfg.Disk.Commit(nil, key)
		return err == nil
	})
}

// deregisterAll deregisters all services of a host in a Consul agent, or only lists them.
func deregisterAll(ctx context.Context, key, state string, dial Dial, dryRun bool) (gone []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	id, url, _ := strings.Cut(key, " ")
	host, err := netmap.ParseID(id)
	if err != nil {
		return nil, err
	}
	c, err := open(url, state, dial)
	if err != nil {
		return nil, err
	}
	defer c.close()
	has, err := c.services(ctx)
	_, deregister := plan(nil, has, func(of netmap.HostID, _ string) bool { return of == host })
	for _, id := range deregister {
		if err == nil && !dryRun {
			err = c.deregister(ctx, id)
		}
		if err == nil {
			gone = append(gone, "service "+id+" in Consul at "+url)
		}
	}
	if err != nil {
		err = fmt.Errorf("consul at %s keeps services whose ids begin with %s%s, deregister them there (consul services deregister -id ID): %w", url, idPrefix, id, err)
	}
	return gone, err
}

// Cleanup deregisters all services that a host has registered, or lists them. Records are those
// of Bucket.
func Cleanup(ctx context.Context, records map[string][]byte, state string, dryRun bool) (gone []string, err error) {
	for _, key := range slices.Sorted(maps.Keys(records)) {
		some, keyErr := deregisterAll(ctx, key, state, nil, dryRun)
		gone, err = append(gone, some...), errors.Join(err, keyErr)
	}
	return gone, err
}
