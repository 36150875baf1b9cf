package secret_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/secret"
)

const (
	older = "older-secret-of-a-cluster"
	newer = "newer-secret-of-a-cluster"
	third = "third-secret-of-a-cluster"
)

var cheap = secret.Cost{Rounds: 1, KiB: 8}

// keys are those of a host with a list of secrets, and a key of its own by its number.
func keys(t testing.TB, host byte, list string) *secret.Keys {
	t.Helper()
	secrets, open, err := secret.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	k, err := secret.New(secrets, open, bytes.Repeat([]byte{host}, 32), cheap)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParse(t *testing.T) {
	for list, want := range map[string]string{
		"":                   "[] true",
		"none":               "[] true",
		older:                "[" + older + "] false",
		older + ", " + newer: "[" + older + " " + newer + "] false",
		older + "," + older:  "[" + older + "] false",
		"none," + older:      "[" + older + "] true",
		"short":              "secret 1 of the list has 5 characters, want 16 or more (openssl rand -hex 16 makes one), or none",
		older + ",":          "secret 2 of the list has 0 characters, want 16 or more (openssl rand -hex 16 makes one), or none",
	} {
		secrets, open, err := secret.Parse(list)
		got := fmt.Sprint(secrets, open)
		if err != nil {
			got = err.Error()
		}
		if got != want || err != nil && strings.Contains(got, "secret-of-a-cluster") {
			t.Errorf("%q: %s, want %s", list, got, want)
		}
	}
}

// meet lets two hosts make a stream, and returns what each has to say about it: nothing, or why there is none.
func meet(t testing.TB, client, server *secret.Keys) (c, s error) {
	t.Helper()
	a, b := pipe(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		conn, err := server.Server(ctx, b)
		if err == nil {
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
		_ = b.Close()
		served <- err
	}()
	conn, err := client.Client(ctx, a, hostB)
	if err == nil {
		_, err = conn.Write([]byte("hello"))
		got := make([]byte, 5)
		if err == nil {
			_, err = io.ReadFull(conn, got)
		}
		if err == nil && string(got) != "hello" {
			err = fmt.Errorf("it says %q", got)
		}
		_ = conn.Close()
	}
	_ = a.Close()
	return err, <-served
}

// pipe is a connection over the kernel's loopback, whose ends buffer.
func pipe(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a, err = net.Dial("tcp", l.Addr().String())
	if err == nil {
		b, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// TestOneSecretInCommonIsEnough, in any order, for streams and datagrams in both directions.
func TestOneSecretInCommonIsEnough(t *testing.T) {
	lists := []string{older, newer, older + "," + newer, newer + "," + older, third, "none," + older, third + "," + newer + "," + older}
	for _, x := range lists {
		for _, y := range lists {
			a, b := keys(t, 1, x), keys(t, 2, y)
			common := false
			for s := range strings.SplitSeq(x, ",") {
				common = common || s != "none" && strings.Contains(y, s)
			}
			c, s := meet(t, a, b)
			if common != (c == nil) || common != (s == nil) {
				t.Errorf("%s meets %s: %v; %v", x, y, c, s)
			}
			for _, err := range []error{c, s} {
				if _, is := errors.AsType[*secret.MismatchError](err); !common && (!is || !strings.Contains(err.Error(), "this host has secret") || strings.Contains(err.Error(), "of-a-cluster")) {
					t.Errorf("%s meets %s: %v", x, y, err)
				}
			}
		}
	}
}

var (
	hostA = netip.MustParseAddrPort("192.0.2.1:7950")
	hostB = netip.MustParseAddrPort("192.0.2.2:7950")
)

// TestDatagrams: each counts once, if it was sealed with a common secret.
func TestDatagrams(t *testing.T) {
	a, b, stranger := keys(t, 1, older), keys(t, 2, newer+","+older), keys(t, 3, third)
	plain := []byte("a datagram")
	sealed := a.Seal(plain, hostB)
	if len(sealed) != len(plain)+secret.Overhead || secret.Overhead > 48 || bytes.Contains(sealed, plain) {
		t.Errorf("sealed is %q", sealed)
	}
	open := func(k *secret.Keys, datagram []byte, from netip.AddrPort) string {
		got, err := k.Open(bytes.Clone(datagram), from)
		if err != nil {
			return err.Error()
		}
		return string(got)
	}
	for i := range sealed {
		forged := bytes.Clone(sealed)
		forged[i] ^= 1
		if got := open(b, forged, hostA); got == string(plain) {
			t.Errorf("byte %d may be another", i)
		}
		if got := open(b, sealed[:i], hostA); got == string(plain) {
			t.Errorf("the first %d bytes are enough", i)
		}
	}
	if got := open(b, sealed, hostA); got != string(plain) {
		t.Errorf("opened: %s", got)
	}
	if got := open(b, sealed, hostA); !strings.Contains(got, "came before") {
		t.Errorf("opened again: %s", got)
	}
	for _, k := range []*secret.Keys{a, b} {
		for _, datagram := range [][]byte{plain, stranger.Seal(plain, hostA)} {
			if got := open(k, datagram, hostA); !strings.Contains(got, "not sealed") {
				t.Errorf("a stranger's: %s", got)
			}
		}
	}
	if got := open(a, sealed, hostB); !strings.Contains(got, "came before") {
		t.Errorf("one's own, sent back: %s", got)
	}
	// b has another first secret, and uses the one by which a was heard.
	if got := open(a, b.Seal(plain, hostA), hostB); got != string(plain) {
		t.Errorf("the answer: %s", got)
	}
}

// TestEachStartHasKeysOfItsOwn: the counter begins anew with each, so with the same key it would use a nonce twice.
func TestEachStartHasKeysOfItsOwn(t *testing.T) {
	b := keys(t, 2, older)
	var last []byte
	for start := range 2 {
		sealed := keys(t, 1, older).Seal([]byte("a datagram"), hostB)
		if bytes.Equal(sealed, last) {
			t.Error("what two starts of a host seal is the same")
		}
		if _, err := b.Open(bytes.Clone(sealed), hostA); err != nil {
			t.Errorf("start %d: %v", start, err)
		}
		last = sealed
	}
}

// TestDatagramsOutOfOrder: in a window of 1,024 each counts once, whatever the order; older ones do not.
func TestDatagramsOutOfOrder(t *testing.T) {
	a, b := keys(t, 1, older), keys(t, 2, older)
	var sent [][]byte
	for range 5000 {
		sent = append(sent, a.Seal([]byte("x"), hostB))
	}
	counts := func(n int) bool {
		_, err := b.Open(bytes.Clone(sent[n-1]), hostA)
		return err == nil
	}
	for _, c := range []struct {
		n    int
		want bool
	}{
		{1, true},
		{3, true},
		{2, true},
		{2, false},
		{3, false},
		{1024, true},
		{1, false},
		{4, true},
		{1025, true},
		{5, true},
		{1, false},
		{3000, true},
		{1976, false},
		{1977, true},
		{1977, false},
		{2999, true},
		{5000, true},
		{3976, false},
		{3977, true},
		{4000, true},
		{4000, false},
	} {
		if got := counts(c.n); got != c.want {
			t.Errorf("datagram %d counts: %v", c.n, got)
		}
	}
}

// TestHostsWithoutASecretAreTakenInWhereThatIsSaid, and are answered so that they understand.
func TestHostsWithoutASecretAreTakenInWhereThatIsSaid(t *testing.T) {
	k := keys(t, 1, older+",none")
	plain := []byte("\xf7plain")
	if got, err := k.Open(bytes.Clone(plain), hostB); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%q, %v", got, err)
	}
	if got := k.Seal(plain, hostB); bytes.Equal(got, plain) {
		t.Error("a datagram that anybody may have sent has the answer in plain text")
	}
	k.Unsealed(hostB) // by a stream
	if got := k.Seal(plain, hostB); !bytes.Equal(got, plain) {
		t.Errorf("the answer is %q", got)
	}
	other := keys(t, 2, older)
	if _, err := k.Open(other.Seal(plain, hostA), hostB); err != nil {
		t.Error(err)
	}
	if got := k.Seal(plain, hostB); bytes.Equal(got, plain) {
		t.Error("a host that has a secret now is sent plain datagrams")
	}
}

func FuzzOpen(f *testing.F) {
	a, b := keys(f, 1, older), keys(f, 2, older)
	f.Add(a.Seal([]byte("x"), hostB)[:40])
	f.Add([]byte{0xf8, 1})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		if got, err := b.Open(datagram, hostA); err == nil {
			t.Errorf("opened %q", got)
		}
	})
}

func BenchmarkSealAndOpen(b *testing.B) {
	x, y := keys(b, 1, older), keys(b, 2, older)
	datagram := make([]byte, 1300)
	b.SetBytes(int64(len(datagram)))
	for b.Loop() {
		if _, err := y.Open(x.Seal(datagram, hostB), hostA); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	x, y := keys(b, 1, older), keys(b, 2, older)
	for b.Loop() {
		if c, s := meet(b, x, y); c != nil || s != nil {
			b.Fatal(c, s)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		older + "\n": "[" + older + "] false", older + "\n" + newer + "\nnone\n": "[" + older + " " + newer + "] true", "none": "[] true",
		"": "empty; write a secret", " \n": "empty; write a secret", "short": "want 16 or more", strings.Repeat("x", 5000): "larger than 4096 bytes",
	} {
		if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		secrets, open, err := secret.Load("file:/etc/secret", func(string) string { return filepath.Join(dir, "secret") })
		got := fmt.Sprint(secrets, open)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || err != nil && !strings.Contains(got, "WEFT_SECRET") {
			t.Errorf("%.40q: %s, want %s", content, got, want)
		}
	}
	for root, want := range map[string]string{"": "WEFT_SECRET=file:/nowhere/secret: open", "/host": "put the file below /var/lib or /run"} {
		if _, _, err := secret.Load("file:/nowhere/secret", func(p string) string { return root + p }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}
