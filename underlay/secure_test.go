package underlay_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/netmap"
	"github.com/weftnet/weft/secret"
	"github.com/weftnet/weft/underlay"
)

const (
	older = "older-secret-of-a-cluster"
	newer = "newer-secret-of-a-cluster"
)

// keysOf are those of a host with a list of secrets; nil for none.
func keysOf(t testing.TB, list string) *secret.Keys {
	t.Helper()
	secrets, open, err := secret.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	k, err := secret.New(secrets, open, bytes.Repeat([]byte{byte(len(list))}, 32), secret.Cost{Rounds: 1, KiB: 8})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// with opens a port of a host with a list of secrets that answers "echo", returns its streams of gossip and reads datagrams.
func with(t *testing.T, list string) (*underlay.Port, <-chan string) {
	t.Helper()
	p := open(t, underlay.Config{Keys: keysOf(t, list)})
	p.Handle("echo", func(_ context.Context, _ netip.AddrPort, body []byte) ([]byte, error) { return body, nil })
	l := p.Stream(underlay.KindGossip)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	datagrams := make(chan string, 16)
	go func() {
		b := make([]byte, underlay.MaxDatagram)
		for {
			n, _, err := p.Packets().ReadFrom(b)
			if err != nil {
				close(datagrams)
				return
			}
			datagrams <- string(b[:n])
		}
	}()
	return p, datagrams
}

// echoes opens a stream, sends what is longer than a buffer of TLS, and wants it back up to the end.
func echoes(t *testing.T, from, to *underlay.Port) error {
	conn, err := from.Dial(within(t), underlay.KindGossip, to.Addr())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	sent := bytes.Repeat([]byte("weft"), 10_000)
	go func() { _, _ = conn.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(sent, got) {
		return errors.New("it comes back as something else")
	}
	return nil
}

// TestHostsWithASecretInCommonUnderstandEachOther, and no others: streams, requests and datagrams, both ways. Who is
// refused is named at both ends.
func TestHostsWithASecretInCommonUnderstandEachOther(t *testing.T) {
	lists := []string{"none", older, newer, older + "," + newer, newer + "," + older, "none," + older, newer + ",none"}
	for _, x := range lists {
		for _, y := range lists {
			common := x == "none" && strings.Contains(y, "none") || y == "none" && strings.Contains(x, "none")
			for s := range strings.SplitSeq(x, ",") {
				common = common || s != "none" && strings.Contains(y, s)
			}
			t.Run(x+" and "+y, func(t *testing.T) {
				t.Parallel()
				a, atA := with(t, x)
				b, atB := with(t, y)
				_, call := a.Call(within(t), b.Addr(), "echo", []byte("x"))
				if err := echoes(t, a, b); common != (err == nil) || common != (call == nil) {
					t.Fatalf("a stream: %v; a request: %v", err, call)
				}
				if !common {
					for _, p := range []*underlay.Port{a, b} {
						if !eventually(t, func() bool { return len(p.Strangers()) == 1 }) {
							t.Error("nobody is refused")
						} else if said := p.Strangers(); !strings.Contains(said[0], "127.0.0.1 is refused: ") || !strings.Contains(said[0], "on both") || strings.Contains(said[0], "of-a-cluster") {
							t.Errorf("refused: %q", said)
						}
					}
					return
				}
				if err := echoes(t, b, a); err != nil {
					t.Fatal(err)
				}
				sends(t, a, b, atB) // each has opened a stream to the other
				sends(t, b, a, atA)
				if said := append(a.Strangers(), b.Strangers()...); len(said) > 0 {
					t.Errorf("they understand each other, and say %q", said)
				}
			})
		}
	}
}

// sends sends a datagram, which must arrive.
func sends(t *testing.T, from, to *underlay.Port, arrive <-chan string) {
	t.Helper()
	if _, err := from.Packets().WriteTo([]byte("datagram"), to.Addr()); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-arrive:
		if got != "datagram" {
			t.Errorf("got %q", got)
		}
	case <-within(t).Done():
		t.Error("no datagram arrives")
	}
}

// TestAStrangerReachesNoPackage: whatever it sends, as a host without a secret or with another one.
func TestAStrangerReachesNoPackage(t *testing.T) {
	p, datagrams := with(t, older)
	called := false
	p.Handle("echo", func(context.Context, netip.AddrPort, []byte) ([]byte, error) { called = true; return nil, nil })
	for story, sent := range map[string]string{
		"a plain request": "W\xf7\x01r\x00\x00\x00\x0a\x00\x00\x10\x00\x04echox", "a plain stream": "W\xf7\x01ghello", "half a preface": "W",
		"garbage": strings.Repeat("\x00", 100), "half a record of TLS": "\x16\x03\x01\x02\x00\x01", "a long one": "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70_000),
	} {
		conn, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, sent)
		if tcp, is := conn.(*net.TCPConn); is {
			_ = tcp.CloseWrite()
		}
		if said := refused(t, conn); len(said) > 7 { // an alert, or needsSecret
			t.Errorf("%s is answered %q", story, said)
		}
		_ = conn.Close()
	}
	other, _ := with(t, newer)
	for range 20 {
		for _, from := range []*underlay.Port{other, open(t, underlay.Config{})} {
			if _, err := from.Packets().WriteTo([]byte("\xf7\x02bforged"), p.Addr()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !eventually(t, func() bool { return p.Stats().Unsealed == 40 }) {
		t.Errorf("%+v", p.Stats())
	}
	select {
	case got := <-datagrams:
		t.Errorf("a datagram: %q", got)
	default:
	}
	if called || p.Stats().Requests > 0 {
		t.Error("a request was answered")
	}
}

// TestASilentHandshakeEnds, and keeps nobody else waiting.
func TestASilentHandshakeEnds(t *testing.T) {
	p, _ := with(t, older)
	var silent []net.Conn
	for i := range 300 { // more than may be pending
		conn, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[:1+i%11])
		silent = append(silent, conn)
	}
	friend, _ := with(t, older)
	if err := echoes(t, friend, p); err != nil {
		t.Error(err)
	}
	for _, conn := range silent {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a silent handshake stays")
		}
	}
}

// TestRefusalsKeepTheirKind through an encrypted stream.
func TestRefusalsKeepTheirKind(t *testing.T) {
	a, _ := with(t, older)
	b, _ := with(t, older)
	b.Handle("no", func(context.Context, netip.AddrPort, []byte) ([]byte, error) {
		return nil, netmap.Refuse(netmap.Held, "no")
	})
	if _, err := a.Call(within(t), b.Addr(), "no", nil); !errors.Is(err, &netmap.Refusal{Kind: netmap.Held}) {
		t.Error(err)
	}
	large := bytes.Repeat([]byte("x"), 8<<20)
	if got, err := a.Call(within(t), b.Addr(), "echo", large); err != nil || !bytes.Equal(got, large) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if !a.Arrives(within(t), b.Addr(), 1400, 10_000) {
		t.Error("packets of a size do not arrive")
	}
}

func eventually(t *testing.T, ok func() bool) bool {
	t.Helper()
	for end := within(t); end.Err() == nil; {
		if ok() {
			return true
		}
		select {
		case <-time.After(time.Millisecond):
		case <-end.Done():
		}
	}
	return false
}

// TestAScannerIsNoHost: who speaks HTTP or TLS without being an agent is not shown to operators.
func TestAScannerIsNoHost(t *testing.T) {
	for _, list := range []string{"none", older, "none," + older} {
		p, _ := with(t, list)
		conn, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: weft\r\n\r\n")
		refused(t, conn)
		_ = conn.Close()
		scan := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it looks at nothing
		if conn, err := scan.DialContext(within(t), "tcp", p.Addr().String()); err == nil {
			refused(t, conn)
			_ = conn.Close()
		}
		if !eventually(t, func() bool { return p.Stats().Garbage == 2 }) || len(p.Strangers()) > 0 {
			t.Errorf("%s: %+v, %q", list, p.Stats(), p.Strangers())
		}
	}
}

// TestAHostThatStopsIsNoStranger: its handshakes end, and the secret is the same.
func TestAHostThatStopsIsNoStranger(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_ = conn.Close()
		}
	}()
	for _, list := range []string{older, "none," + older} {
		p, _ := with(t, list)
		if _, err := p.Dial(within(t), underlay.KindGossip, netip.MustParseAddrPort(l.Addr().String())); err == nil || len(p.Strangers()) > 0 {
			t.Errorf("%s: %v, %q", list, err, p.Strangers())
		}
	}
}

// TestAHostThatIsMendedIsNoStranger: as soon as it is understood.
func TestAHostThatIsMendedIsNoStranger(t *testing.T) {
	p, _ := with(t, older)
	wrong, _ := with(t, newer)
	if err := echoes(t, wrong, p); err == nil || !eventually(t, func() bool { return len(p.Strangers()) == 1 }) {
		t.Fatalf("%v, %q", err, p.Strangers())
	}
	right, _ := with(t, older)
	if err := echoes(t, right, p); err != nil || len(p.Strangers()) > 0 {
		t.Errorf("%v, %q", err, p.Strangers())
	}
}

// TestALargeHandshakeEnds before it takes memory.
func TestALargeHandshakeEnds(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, 60_000)}}}
	large, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := with(t, older)
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{secret.Protocol}, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{large}, PrivateKey: key}, nil
	}}} //nolint:gosec // it looks at nothing
	if conn, err := dialer.DialContext(within(t), "tcp", p.Addr().String()); err == nil {
		refused(t, conn)
		_ = conn.Close()
	}
	if !eventually(t, func() bool { return p.Stats().Garbage == 1 }) || p.Stats().Strange > 0 {
		t.Errorf("%+v", p.Stats())
	}
}
