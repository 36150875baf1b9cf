package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/weftnet/weft/lab/probe"
)

func TestRun(t *testing.T) {
	s, err := probe.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct{ args, key string }{
		{"throughput -for 20ms", `"bits_per_second"`},
		{"throughput -for 20ms -reverse -streams 2", `"bits_per_second"`},
		{"roundtrip -count 5 -size 10", `"p99_us"`},
		{"ping -count 1", `"received":1`},
		{"stream -every 5ms -for 20ms", `"lost":0`},
		{"stream -tcp -every 5ms -for 20ms", `"lost":0`},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), append(strings.Fields(c.args), s.Addr()), &out); err != nil {
			t.Errorf("%s: %v", c.args, err)
		}
		if !json.Valid(out.Bytes()) || !strings.Contains(out.String(), c.key) {
			t.Errorf("%s printed %s, without %s", c.args, out.String(), c.key)
		}
	}
}

// TestRunAsksForNames asks a server that knows none.
func TestRunAsksForNames(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.LocalAddr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- run(ctx, []string{"nothing", "-addr", addr}, &bytes.Buffer{}) }()
	for _, c := range []struct{ args, key string }{
		{"names -every 1ms -for 1s", `"NXDOMAIN"`}, {"names -every 1ms -for 1s -keep", `"NXDOMAIN"`}, {"lookups -count 10", `"count":10`},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), append(strings.Fields(c.args), "-server", addr, "nobody.example"), &out); err != nil || !strings.Contains(out.String(), c.key) {
			t.Errorf("%s: %v, printed %s, without %s", c.args, err, out.String(), c.key)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestRunServesUntilStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := run(ctx, []string{"serve", "-addr", "127.0.0.1:0"}, &out); err != nil || out.Len() != 0 {
		t.Errorf("%v, printed %q", err, out.String())
	}
}

func TestRunExplainsItself(t *testing.T) {
	for _, args := range []string{"", "nonsense", "ping", "throughput", "stream -every x host", "roundtrip -unknown host"} {
		if err := run(t.Context(), strings.Fields(args), &bytes.Buffer{}); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
