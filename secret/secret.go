package secret

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
)

// None stands in a list of secrets for hosts without one.
const None = "none"

// MinLength is the length of the shortest secret that is taken, in bytes.
const MinLength = 16

// Cost is what one guess of a secret costs (Argon2id, RFC 9106).
type Cost struct {
	Rounds uint32
	KiB    uint32
}

// DefaultCost takes some 50 ms of a processor at each start of an agent, and 19 MiB while it lasts.
var DefaultCost = Cost{Rounds: 2, KiB: 19 << 10}

// Parse splits a list of secrets. Open reports that None is among them. An empty list is None alone. The error shows no secret.
func Parse(list string) (secrets []string, open bool, err error) {
	for i, s := range strings.Split(list, ",") {
		s = strings.TrimSpace(s)
		switch {
		case s == None, s == "" && list == "":
			open = true
		case len(s) < MinLength:
			return nil, false, fmt.Errorf("secret %d of the list has %d characters, want %d or more (openssl rand -hex 16 makes one), or none", i+1, len(s), MinLength)
		case !slices.Contains(secrets, s):
			secrets = append(secrets, s)
		}
	}
	return secrets, open, nil
}

// ID tells secrets apart. It is public, and a guess of the secret can be tried against it.
type ID [4]byte

// String is the ID as people see it.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// one is what is left of a secret.
type one struct {
	id        ID
	authority ed25519.PublicKey
	leaf      []byte // this host's certificate
	datagrams [32]byte
}

// Keys are those of one host. They are safe for concurrent use.
type Keys struct {
	host  ed25519.PrivateKey
	all   []one
	open  bool
	seals *seals
}

// New derives the keys of a host from the secrets and the seed of its own key, of ed25519.SeedSize bytes. It returns nil
// if there is no secret.
func New(secrets []string, open bool, seed []byte, cost Cost) (*Keys, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	if len(secrets) > maxSecrets {
		return nil, fmt.Errorf("WEFT_SECRET: a list of %d secrets; give %d at most", len(secrets), maxSecrets)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("secret: the host's key has %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	k := &Keys{host: ed25519.NewKeyFromSeed(seed), open: open}
	for _, s := range secrets {
		o, err := derive(s, k.host.Public(), cost)
		if err != nil {
			return nil, fmt.Errorf("secret: %w", err)
		}
		k.all = append(k.all, o)
	}
	var err error
	k.seals, err = newSeals(k.all, open)
	return k, err
}

// AcceptsNone reports whether hosts without a secret are understood too.
func (k *Keys) AcceptsNone() bool { return k.open }

// IDs are those of the secrets, in their order.
func (k *Keys) IDs() []string {
	out := make([]string, 0, len(k.all))
	for _, o := range k.all {
		out = append(out, o.id.String())
	}
	return out
}

// has describes the secrets of this host.
func (k *Keys) has() string { return "this host has secret " + strings.Join(k.IDs(), ", ") }

func derive(secret string, host any, cost Cost) (one, error) {
	root := argon2.IDKey([]byte(secret), []byte("weft cluster secret"), cost.Rounds, cost.KiB, 1, 32)
	var parts [3][]byte
	for i, use := range []string{"id", "authority", "datagrams"} {
		var err error
		if parts[i], err = hkdf.Expand(sha256.New, root, "weft "+use, 32); err != nil {
			return one{}, err
		}
	}
	out := one{id: ID(parts[0][:4]), datagrams: [32]byte(parts[2])}
	authority := ed25519.NewKeyFromSeed(parts[1])
	out.authority, _ = authority.Public().(ed25519.PublicKey)
	// The dates are never looked at: a host's clock may be wrong when it boots.
	name := pkix.Name{CommonName: out.id.String()}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), Issuer: name, Subject: pkix.Name{CommonName: "weft host"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	var err error
	out.leaf, err = x509.CreateCertificate(rand.Reader, leaf, &x509.Certificate{Subject: name}, host, authority)
	return out, err
}
