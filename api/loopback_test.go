package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
)

// freePort is a loopback address at which nobody listens.
func freePort(t *testing.T, ip string) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return netip.MustParseAddrPort(ln.Addr().String())
}

// loopback serves an agent at an address until the test ends, and passes on what the
// server tells.
func loopback(t *testing.T, addr netip.AddrPort, a api.Reporter) (told <-chan string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tells, ended := make(chan string, 16), make(chan struct{})
	go func() {
		defer close(ended)
		api.ServeLoopback(ctx, addr, a, nil, func(sentence string) { tells <- sentence })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return tells
}

// ask sends a request to an address and answers the status code and the body.
func ask(t *testing.T, addr netip.AddrPort, method, path, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr.String()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestLoopbackShowsTheReportAndHealth(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		addr := freePort(t, ip)
		if got := <-loopback(t, addr, &agent{}); got != "" {
			t.Fatal(got)
		}
		code, body := ask(t, addr, http.MethodGet, "/status", "")
		var r api.Report
		if err := json.Unmarshal([]byte(body), &r); err != nil || code != http.StatusOK || r.Name != sample().Name {
			t.Errorf("%s: %d, %v: %s", ip, code, err, body)
		}
		if code, body := ask(t, addr, http.MethodGet, "/health", ""); code != http.StatusOK || body != "ready\n" {
			t.Errorf("%s: %d %q", ip, code, body)
		}
	}
	addr := freePort(t, "127.0.0.1")
	<-loopback(t, addr, &agent{refusal: errors.New("no lease\nyet")})
	if code, body := ask(t, addr, http.MethodGet, "/health", ""); code != http.StatusServiceUnavailable || body != "no lease; yet\n" {
		t.Errorf("%d %q", code, body)
	}
}

// TestLoopbackTakesNoOrders: who reaches the port changes nothing.
func TestLoopbackTakesNoOrders(t *testing.T) {
	addr := freePort(t, "127.0.0.1")
	<-loopback(t, addr, &agent{})
	for path, want := range map[string]int{
		"/hosts/remove": 404, "/peers/connect": 404, "/host/leave": 404, "/ledger/recover": 404, "/ledger/log": 404, "/": 404,
		"/status": 405, "/health": 405,
	} {
		if code, body := ask(t, addr, http.MethodPost, path, ""); code != want {
			t.Errorf("POST %s: %d %s, want %d", path, code, body, want)
		}
	}
}

// TestLoopbackRefusesOtherNames: a web page whose name resolves to 127.0.0.1 reads nothing.
func TestLoopbackRefusesOtherNames(t *testing.T) {
	addr := freePort(t, "127.0.0.1")
	<-loopback(t, addr, &agent{})
	for host, want := range map[string]int{
		"": 200, "127.0.0.1": 200, "127.0.0.1:7951": 200, "localhost:7951": 200, "LocalHost": 200, "[::1]:7951": 200, "[::1]": 200,
		"evil.example": 421, "evil.example:7951": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421,
	} {
		for _, path := range []string{"/status", "/health"} {
			if code, body := ask(t, addr, http.MethodGet, path, host); code != want || (want != 200 && strings.Contains(body, "cluster")) {
				t.Errorf("%s at Host %q: %d, want %d: %s", path, host, code, want, body)
			}
		}
	}
}

// TestLoopbackWaitsForItsPort: whoever has it is named, and the server comes when it is
// free.
func TestLoopbackWaitsForItsPort(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", ":0", "[::1]:0"} {
		ln, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
		addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
		if strings.HasPrefix(at, "[::1]") {
			addr = netip.AddrPortFrom(netip.IPv6Loopback(), port)
		}
		told := loopback(t, addr, &agent{})
		me := fmt.Sprintf("(process %d) listens", os.Getpid())
		if got := <-told; !strings.Contains(got, me) || !strings.Contains(got, "WEFT_STATUS="+addr.String()) {
			t.Errorf("at %s it says %q, want %q", at, got, me)
		}
		ln.Close()
		for got := range told {
			if got == "" {
				break
			}
		}
		if code, _ := ask(t, addr, http.MethodGet, "/health", ""); code != http.StatusOK {
			t.Errorf("%d", code)
		}
	}
	gone := netip.MustParseAddrPort("192.0.2.77:7951") // an address that this machine has not
	if got := <-loopback(t, gone, &agent{}); !strings.Contains(got, "cannot assign") || !strings.Contains(got, "or to nothing") {
		t.Errorf("it says %q", got)
	}
}

// TestLoopbackServesSoManyAtOnce: connections beyond that wait until others end.
func TestLoopbackServesSoManyAtOnce(t *testing.T) {
	addr := freePort(t, "127.0.0.1")
	<-loopback(t, addr, &agent{})
	const most = 64
	var idle []net.Conn
	for range most {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 4096)); err != nil { // it was accepted
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + addr.String() + "/health")
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("connection %d was served at once: %v", most+1, err)
	case <-time.After(200 * time.Millisecond):
	}
	idle[0].Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestHealthOverTheSocket(t *testing.T) {
	if got, err := api.At(window(t, &agent{})).NotReady(t.Context()); err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
	socket := window(t, &agent{refusal: errors.New("no lease yet")})
	if got, err := api.At(socket).NotReady(t.Context()); err != nil || got != "no lease yet" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := api.At(socket + "x").NotReady(t.Context()); !errors.Is(err, api.ErrNoAgent) {
		t.Errorf("without an agent: %v", err)
	}
}
