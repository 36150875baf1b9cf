package secret

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
)

const (
	// Protocol is what both ends name in their first message (ALPN, RFC 7301).
	Protocol = "weft/1"
	// suffix ends the server name by which a client says which secrets it has: their IDs come before it, as labels.
	suffix = ".weft"
	// Lenient is the end of that name, so also in the first message, if the client understands hosts without a secret too.
	Lenient = "." + None + suffix
	// maxSecrets is how many fit into a server name.
	maxSecrets = 16
)

// MismatchError is why two hosts do not understand each other, for a person.
type MismatchError struct{ Text string }

// Error implements error.
func (e *MismatchError) Error() string { return e.Text }

// Client makes a stream of a connection that this host has opened to an address, and remembers with which secret the host there
// reads datagrams. It ends with ctx. The error is a *MismatchError if the other host shows no secret of this one. That
// the other host takes this one's certificate is known with the first byte from it.
func (k *Keys) Client(ctx context.Context, conn net.Conn, to netip.AddrPort) (net.Conn, error) {
	common := 0
	cfg := config()
	cfg.ServerName = strings.Join(k.IDs(), ".") + suffix
	if k.open {
		cfg.ServerName = strings.Join(k.IDs(), ".") + Lenient
	}
	cfg.InsecureSkipVerify = true // in place of what it skips:
	cfg.VerifyConnection = func(s tls.ConnectionState) (err error) {
		common, err = k.verify(s)
		return err
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return k.certificate(common), nil }
	c := tls.Client(conn, cfg)
	err := c.HandshakeContext(ctx)
	if err == nil {
		k.seals.note(to, common)
		return c, nil
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("it ended the handshake, as an agent that is stopped does; its log says more: %w", err)
	}
	return nil, err
}

// Server makes a stream of a connection that came in. It ends with ctx. The error is a *MismatchError if the other host shows no
// secret of this one.
func (k *Keys) Server(ctx context.Context, conn net.Conn) (net.Conn, error) {
	var theirs []string
	cfg := config()
	cfg.ClientAuth = tls.RequireAnyClientCert
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := k.verify(s)
		return err
	}
	cfg.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		theirs = named(h.ServerName)
		return k.certificate(max(k.among(theirs), 0)), nil // without a common one, the other host then knows whom it does not understand
	}
	c := tls.Server(conn, cfg)
	err := c.HandshakeContext(ctx)
	if err == nil {
		return c, nil
	}
	if len(theirs) > 0 && k.among(theirs) < 0 {
		err = k.mismatch(theirs)
	}
	return nil, err
}

func config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{Protocol}, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true}
}

// certificate is that of the i-th secret.
func (k *Keys) certificate(i int) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{k.all[i].leaf}, PrivateKey: k.host}
}

// among returns which secret of this host is the first that another one names, -1 if none is.
func (k *Keys) among(ids []string) int {
	return slices.IndexFunc(k.all, func(o one) bool { return slices.Contains(ids, o.id.String()) })
}

// verify returns which secret the other end has shown. crypto/tls has checked that the certificate's key is its own.
func (k *Keys) verify(s tls.ConnectionState) (int, error) {
	if s.NegotiatedProtocol != Protocol || len(s.PeerCertificates) == 0 {
		return 0, fmt.Errorf("the other end speaks %.20q, want %s", s.NegotiatedProtocol, Protocol)
	}
	cert := s.PeerCertificates[0]
	_, hosts := cert.PublicKey.(ed25519.PublicKey)
	for i, o := range k.all {
		if hosts && cert.SignatureAlgorithm == x509.PureEd25519 && ed25519.Verify(o.authority, cert.RawTBSCertificate, cert.Signature) {
			return i, nil
		}
	}
	return 0, k.mismatch(named(cert.Issuer.CommonName))
}

// mismatch says that another host has these secrets, as far as it tells.
func (k *Keys) mismatch(theirs []string) error {
	said := "another secret"
	if len(theirs) > 0 {
		said = "secret " + strings.Join(theirs, ", ")
	}
	return &MismatchError{Text: fmt.Sprintf("it has %s, %s; set the same WEFT_SECRET on both", said, k.has())}
}

// named are the IDs in a name that another host gave; what is none is left out.
func named(name string) (ids []string) {
	for label := range strings.SplitSeq(strings.TrimSuffix(name, suffix), ".") {
		if len(label) == 2*len(ID{}) && strings.Trim(label, "0123456789abcdef") == "" && len(ids) < maxSecrets {
			ids = append(ids, label)
		}
	}
	return ids
}
