package underlay_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"testing"
	"time"

	"github.com/weftnet/weft/secret"
	"github.com/weftnet/weft/underlay"
)

// TestAForgedCertificateIsRefused by who accepts a stream, not only by a client that looks at what it is shown: the stranger
// takes any server, names the secret's ID, which is public, and shows a certificate that says the same.
func TestAForgedCertificateIsRefused(t *testing.T) {
	for _, list := range []string{older, "none," + older} {
		p, _ := with(t, list)
		id := keysOf(t, older).IDs()[0]
		_, authority, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, host, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "weft host"}, KeyUsage: x509.KeyUsageDigitalSignature}
		forged, err := x509.CreateCertificate(rand.Reader, leaf, &x509.Certificate{Subject: pkix.Name{CommonName: id}}, host.Public(), authority)
		if err != nil {
			t.Fatal(err)
		}
		dialer := tls.Dialer{Config: &tls.Config{
			InsecureSkipVerify: true, ServerName: id + ".weft", NextProtos: []string{secret.Protocol}, MinVersion: tls.VersionTLS13, //nolint:gosec // it looks at nothing
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{forged}, PrivateKey: host}, nil
			},
		}}
		conn, err := dialer.DialContext(within(t), "tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err) // TLS 1.3: a client hears with its first read that it is refused
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(conn, "W\xf7\x01"+string(underlay.KindGossip)+"hello") // a package would send it back
		if got, _ := io.ReadAll(io.LimitReader(conn, 5)); len(got) > 0 {
			t.Errorf("%s: a stranger is answered %q", list, got)
		}
		_ = conn.Close()
		if !eventually(t, func() bool { return p.Stats().Strange == 1 }) {
			t.Errorf("%s: %+v", list, p.Stats())
		}
	}
}
