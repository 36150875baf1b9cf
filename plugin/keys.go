package plugin

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"github.com/weftnet/weft/secret"
)

// hostKey is where the bucket "host" of the store has the seed of this host's own key.
const hostKey = "key"

// openKeys makes the keys of the cluster's secrets; nil if it has none.
func (a *Agent) openKeys() (*secret.Keys, error) {
	secrets, open, err := secret.Load(a.cfg.Settings.Secret, a.cfg.Settings.HostPath)
	if err != nil || len(secrets) == 0 {
		return nil, err
	}
	bucket := a.store.Bucket("host")
	kept, err := bucket.Load()
	seed := kept[hostKey]
	if err == nil && len(seed) != ed25519.SeedSize {
		seed = make([]byte, ed25519.SeedSize)
		_, _ = rand.Read(seed) // never fails
		err = bucket.Commit(map[string][]byte{hostKey: seed})
	}
	if err != nil {
		return nil, fmt.Errorf("this host's key: %w", err)
	}
	return secret.New(secrets, open, seed, secret.DefaultCost)
}
