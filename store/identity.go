package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/bbolt"
	bberr "go.etcd.io/bbolt/errors"

	"github.com/weftnet/weft/netmap"
)

var metaBucket = []byte("weft")

const (
	keyIdentity = "identity"
	keyCluster  = "cluster"
)

var errBadRecord = errors.New("bad record")

// badFile is the database library's error for a file that is not a database.
var badFile = []error{bberr.ErrInvalid, bberr.ErrVersionMismatch, bberr.ErrChecksum}

// maxEarlier bounds the remembered starts that the ledger has not acknowledged.
const maxEarlier = 1024

// Incarnation identifies one start of the agent under one identity.
type Incarnation struct {
	Start uint64 `json:"start"` // 1 at the first start, then one more each time
	Nonce uint64 `json:"nonce"` // random
}

// Identity identifies this host. With Earlier the ledger tells a continuation from a clone
// or an old disk: the newest start that the ledger has seen of this host must be this one
// or one of Earlier.
type Identity struct {
	Host    netmap.HostID `json:"host"`
	Start   uint64        `json:"start"`
	Nonce   uint64        `json:"nonce"`
	Earlier []Incarnation `json:"earlier,omitempty"` // newest first, back to the last start that the ledger acknowledged
}

// identityCell is the identity and cluster as they are on disk.
type identityCell struct {
	mu      sync.Mutex
	id      Identity
	cluster netmap.ClusterID
}

// nextStart begins the next start of the identity, which it makes if there is none, and
// returns the change to commit.
func (s *Store) nextStart() (change, error) {
	meta, err := s.Bucket(string(metaBucket)).Load()
	if err != nil {
		return change{}, err
	}
	id, err := readIdentity(meta[keyIdentity])
	if err != nil {
		return change{}, err
	}
	if raw := meta[keyCluster]; raw != nil {
		if err := s.ident.cluster.UnmarshalText(raw); err != nil {
			return change{}, fmt.Errorf("%w: cluster %q", errBadRecord, raw)
		}
	}
	s.ident.id = id.next()
	return identityChange(s.ident.id)
}

// readIdentity reads the identity, or makes one if there is none.
func readIdentity(raw []byte) (id Identity, err error) {
	if raw == nil {
		return Identity{Host: newID()}, nil
	}
	if err := json.Unmarshal(raw, &id); err != nil || id.Host.IsZero() {
		return Identity{}, fmt.Errorf("%w: identity %q", errBadRecord, raw)
	}
	return id, nil
}

func identityChange(id Identity) (change, error) {
	raw, err := json.Marshal(id)
	if err != nil {
		return change{}, fmt.Errorf("store: encode identity: %w", err)
	}
	return change{bucket: metaBucket, set: map[string][]byte{keyIdentity: raw}}, nil
}

// next returns the identity one start later.
func (id Identity) next() Identity {
	if id.Start > 0 {
		id.Earlier = slices.Insert(slices.Clone(id.Earlier), 0, Incarnation{Start: id.Start, Nonce: id.Nonce})
	}
	if n := len(id.Earlier); n > maxEarlier {
		// Keep the oldest: it is the one that was acknowledged.
		id.Earlier = slices.Delete(id.Earlier, maxEarlier-1, n-1)
	}
	id.Start++
	id.Nonce = newNonce()
	return id
}

// acknowledged returns the identity without the starts that are not needed any more.
func (id Identity) acknowledged(start uint64) Identity {
	kept := slices.Clone(id.Earlier)
	if start >= id.Start {
		kept = nil
	} else if i := slices.IndexFunc(kept, func(b Incarnation) bool { return b.Start <= start }); i >= 0 {
		kept = kept[:i+1]
	}
	id.Earlier = kept
	return id
}

// Identity returns the identity of this host, with this start.
func (s *Store) Identity() Identity {
	s.ident.mu.Lock()
	defer s.ident.mu.Unlock()
	id := s.ident.id
	id.Earlier = slices.Clone(id.Earlier)
	return id
}

// Acknowledge notes that the ledger has recorded the start with this number. Earlier
// starts are dropped.
func (s *Store) Acknowledge(start uint64) error {
	return s.change(func(id Identity) Identity { return id.acknowledged(start) })
}

// NewIdentity replaces the identity of this host, after its removal from the cluster or
// because an operator asked for it. The host stays tied to its cluster.
func (s *Store) NewIdentity() (Identity, error) {
	err := s.change(func(Identity) Identity { return Identity{Host: newID()}.next() })
	return s.Identity(), err
}

// mostStarts is how many starts an identity may skip at once.
const mostStarts = 1 << 20

// SkipTo makes the next start of this identity greater than a number that others take for
// one of its starts, and that it never had. Earlier is kept.
func (s *Store) SkipTo(start uint64) error {
	if now := s.Identity().Start; start > now && start-now > mostStarts {
		return fmt.Errorf("store: start %d cannot follow start %d of this host; somebody made it up", start, now)
	}
	return s.change(func(id Identity) Identity {
		if start <= id.Start {
			return id
		}
		id = id.next()
		id.Start = start
		return id
	})
}

// change writes a changed identity to disk before it takes effect.
func (s *Store) change(f func(Identity) Identity) error {
	s.ident.mu.Lock()
	defer s.ident.mu.Unlock()
	id := f(s.ident.id)
	c, err := identityChange(id)
	if err != nil {
		return err
	}
	if err := s.commit.do(c); err != nil {
		return err
	}
	s.ident.id = id
	return nil
}

// Cluster returns the cluster that this directory belongs to; zero before SetCluster.
func (s *Store) Cluster() netmap.ClusterID {
	s.ident.mu.Lock()
	defer s.ident.mu.Unlock()
	return s.ident.cluster
}

// SetCluster ties the directory to a cluster, once. For another cluster it returns a
// *netmap.Refusal of kind Foreign that names both.
func (s *Store) SetCluster(id netmap.ClusterID) error {
	s.ident.mu.Lock()
	defer s.ident.mu.Unlock()
	switch {
	case id.IsZero():
		return netmap.Refuse(netmap.BadInput, "store: a cluster id of zero means none")
	case s.ident.cluster == id:
		return nil
	case !s.ident.cluster.IsZero():
		return netmap.Refuse(netmap.Foreign,
			"store: state directory %s belongs to cluster %s, not to %s; join a host of that cluster, or run `weft cleanup` here to start empty", s.path, s.ident.cluster, id)
	}
	if err := s.commit.do(change{bucket: metaBucket, set: map[string][]byte{keyCluster: []byte(id.String())}}); err != nil {
		return err
	}
	s.ident.cluster = id
	return nil
}

func putJSON(b *bbolt.Bucket, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	return b.Put(key, raw)
}

// newID and newNonce never fail: crypto/rand ends the process instead.
func newID() (id netmap.ID) {
	_, _ = rand.Read(id[:])
	return id
}

func newNonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}
