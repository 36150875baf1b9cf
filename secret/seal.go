package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A sealed datagram is
//
//	magic (1), form (1), ID of the secret (4), session (16), counter (8), sealed bytes, tag (16)
//
// and all before the sealed bytes is authenticated too (AES-256-GCM, RFC 5116). A session is one start of an agent and has a
// key of its own, so that a counter that begins anew repeats no nonce.
const (
	sealMagic = 0xf8
	sealForm  = 1

	sessionLen = 16
	sealHead   = 2 + len(ID{}) + sessionLen + 8

	// Overhead is by how many bytes a sealed datagram is longer.
	Overhead = sealHead + 16
)

const (
	// window is how far a datagram may come after a later one of its session and still count (RFC 6479).
	window = 1024
	// maxSessions bounds the sessions that are remembered; when there are more, the one that was silent for longest goes.
	maxSessions = 8192
)

// Errors of Open.
var (
	errUnsealed = errors.New("is not sealed with a secret (WEFT_SECRET) of this host")
	errReplayed = errors.New("came before, or long after those that were sent later")
)

// seals are the datagrams of one start of an agent.
type seals struct {
	open    bool
	session [sessionLen]byte
	counter atomic.Uint64
	own     []cipher.AEAD // by secret
	all     []one

	mu    sync.Mutex
	heard map[sessionID]*heard
	// by says with which secret an address has sent last, if that was not the first one: an index, or unsealed.
	by map[netip.AddrPort]int
}

const unsealed = -1

type sessionID struct {
	secret  int
	session [sessionLen]byte
}

// heard is a session of another host.
type heard struct {
	aead cipher.AEAD
	last time.Time

	top  uint64              // the highest counter
	seen [window / 64]uint64 // a bit for each of the counters up to top
}

func newSeals(all []one, open bool) (*seals, error) {
	s := &seals{open: open, all: all, heard: map[sessionID]*heard{}, by: map[netip.AddrPort]int{}}
	_, _ = rand.Read(s.session[:]) // never fails
	for _, o := range all {
		aead, err := o.aead(s.session)
		if err != nil {
			return nil, err
		}
		s.own = append(s.own, aead)
	}
	return s, nil
}

// aead seals and opens the datagrams of a session.
func (o one) aead(session [sessionLen]byte) (cipher.AEAD, error) {
	key, err := hkdf.Expand(sha256.New, o.datagrams[:], "weft session "+string(session[:]), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Seal returns what is sent in place of a datagram: it is sealed with the secret that the host at that address has shown last,
// the first one if it has shown none.
func (k *Keys) Seal(b []byte, to netip.AddrPort) []byte {
	s := k.seals
	s.mu.Lock()
	by := s.by[to]
	s.mu.Unlock()
	if by == unsealed {
		return b
	}
	out := make([]byte, sealHead, Overhead+len(b))
	out[0], out[1] = sealMagic, sealForm
	copy(out[2:], s.all[by].id[:])
	copy(out[2+len(ID{}):], s.session[:])
	binary.BigEndian.PutUint64(out[sealHead-8:], s.counter.Add(1))
	return s.own[by].Seal(out, nonce(out), b, out)
}

// nonce is four zeros and the counter of a head.
func nonce(head []byte) []byte {
	return append(make([]byte, 4, 12), head[sealHead-8:sealHead]...)
}

// Open returns what was sealed, in the memory of b, or why the datagram does not count. Nothing of it is remembered before it is known that
// its sender has the secret.
func (k *Keys) Open(b []byte, from netip.AddrPort) ([]byte, error) {
	s := k.seals
	if len(b) < Overhead || b[0] != sealMagic || b[1] != sealForm {
		if !s.open {
			return nil, errUnsealed
		}
		return b, nil // anybody may have sent it, so it says nothing of who is there
	}
	for i, o := range s.all {
		if o.id != ID(b[2:]) {
			continue
		}
		id := sessionID{i, [sessionLen]byte(b[2+len(ID{}):])}
		if id.session == s.session { // it is this host's own
			return nil, errReplayed
		}
		return s.unseal(id, b, from)
	}
	return nil, errUnsealed
}

func (s *seals) unseal(id sessionID, b []byte, from netip.AddrPort) ([]byte, error) {
	s.mu.Lock()
	h := s.heard[id]
	s.mu.Unlock()
	var aead cipher.AEAD
	if h != nil {
		aead = h.aead
	} else {
		var err error
		if aead, err = s.all[id.secret].aead(id.session); err != nil {
			return nil, err
		}
	}
	out, err := aead.Open(b[sealHead:sealHead], nonce(b), b[sealHead:], b[:sealHead])
	if err != nil {
		return nil, errUnsealed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h = s.heard[id]; h == nil {
		s.makeRoom()
		h = &heard{aead: aead}
		s.heard[id] = h
	}
	h.last = time.Now()
	if !h.fresh(binary.BigEndian.Uint64(b[sealHead-8:])) {
		return nil, errReplayed
	}
	s.noteLocked(from, id.secret)
	return out, nil
}

// fresh reports whether a counter is new, and remembers it.
func (h *heard) fresh(n uint64) bool {
	if n == 0 || n+window <= h.top {
		return false
	}
	for ; h.top < n; h.top++ {
		if n-h.top > window { // all of the window is older
			h.top, h.seen = n-window, [window / 64]uint64{}
		}
		next := (h.top + 1) % window
		h.seen[next/64] &^= 1 << (next % 64)
	}
	bit := uint64(1) << (n % 64)
	if h.seen[n%window/64]&bit != 0 {
		return false
	}
	h.seen[n%window/64] |= bit
	return true
}

// makeRoom forgets the session that was silent for longest if there are too many. Under mu.
func (s *seals) makeRoom() {
	if len(s.heard) < maxSessions {
		return
	}
	var oldest sessionID
	var since time.Time
	for id, h := range s.heard {
		if since.IsZero() || h.last.Before(since) {
			oldest, since = id, h.last
		}
	}
	delete(s.heard, oldest)
}

// Unsealed notes that the host at an address reads no sealed datagrams.
func (k *Keys) Unsealed(at netip.AddrPort) { k.seals.note(at, unsealed) }

func (s *seals) note(from netip.AddrPort, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteLocked(from, by)
}

// noteLocked notes which secret the host at an address has shown. Under mu.
func (s *seals) noteLocked(from netip.AddrPort, by int) {
	switch {
	case by == 0:
		delete(s.by, from)
	case len(s.by) < maxSessions || s.by[from] != 0: // as many hosts have shown a secret that is not the first, or none
		s.by[from] = by
	}
}
