package probe

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func serve(t *testing.T) string {
	t.Helper()
	s, err := Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Addr()
}

func TestSummarize(t *testing.T) {
	us := func(n ...int) []time.Duration {
		var all []time.Duration
		for _, n := range n {
			all = append(all, time.Duration(n)*time.Microsecond)
		}
		return all
	}
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	rand.Shuffle(len(hundred), func(i, j int) { hundred[i], hundred[j] = hundred[j], hundred[i] })
	for _, c := range []struct {
		name    string
		samples []time.Duration
		want    Times
	}{
		{"none", nil, Times{}},
		{"one", us(7), Times{Count: 1, Min: 7, P50: 7, P99: 7, Max: 7}},
		{"two", us(9, 3), Times{Count: 2, Min: 3, P50: 3, P99: 9, Max: 9}},
		{"hundred", us(hundred...), Times{Count: 100, Min: 1, P50: 50, P99: 99, Max: 100}},
	} {
		if diff := cmp.Diff(c.want, Summarize(c.samples)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestThroughputBothWays(t *testing.T) {
	addr := serve(t)
	for _, reverse := range []bool{false, true} {
		got, err := MeasureThroughput(t.Context(), addr, 2, reverse, 100*time.Millisecond)
		if err != nil || got.Bytes < 1<<20 || got.BitsPerSecond <= 0 {
			t.Errorf("reverse %v: %+v, %v", reverse, got, err)
		}
	}
}

func TestRoundTrips(t *testing.T) {
	got, err := MeasureRoundTrips(t.Context(), serve(t), 50, 100)
	if err != nil || got.Count != 50 || got.Min <= 0 || got.P50 > got.P99 || got.P99 > got.Max {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRoundTripsEndWithTheirContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := MeasureRoundTrips(ctx, silent.Addr().String(), 5, 1); err == nil || !strings.Contains(err.Error(), "round trip 1 of 5") {
		t.Errorf("a server that never answers: %v", err)
	}
}

func TestLossOnAGoodLink(t *testing.T) {
	got, err := MeasureLoss(t.Context(), serve(t), time.Millisecond, 100*time.Millisecond, 64)
	if err != nil || got.Sent < 20 || got.Lost != 0 || got.Received != got.Sent {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLossRefusesNonsense(t *testing.T) {
	for _, c := range []struct {
		every time.Duration
		size  int
	}{{0, 64}, {-1, 64}, {time.Millisecond, 7}} {
		if _, err := MeasureLoss(t.Context(), "127.0.0.1:1", c.every, 0, c.size); err == nil {
			t.Errorf("a packet of %d bytes every %v was accepted", c.size, c.every)
		}
	}
}

// A server that answers some packets, and some twice, is seen as what it is.
func TestLossCountsWhatIsMissing(t *testing.T) {
	lossy, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 100)
		for i := 1; ; i++ {
			n, from, err := lossy.ReadFrom(buf)
			if err != nil {
				return
			}
			if slices.Contains([]int{3, 4, 5, 9}, i) {
				continue
			}
			_, _ = lossy.WriteTo(buf[:n], from)
			if i == 10 {
				_, _ = lossy.WriteTo(buf[:n], from)
			}
		}
	}()
	got, err := MeasureLoss(t.Context(), lossy.LocalAddr().String(), 2*time.Millisecond, 300*time.Millisecond, 8)
	lossy.Close()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	want := Loss{Lost: 4, LostRun: 3, FirstLost: []int{3, 4, 5, 9}, Duplicates: 1}
	seen := Loss{Lost: got.Lost, LostRun: got.LostRun, FirstLost: got.FirstLost, Duplicates: got.Duplicates}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var runs []int
	for _, hole := range got.Losses {
		runs = append(runs, hole.Packets)
	}
	if !slices.Equal(runs, []int{3, 1}) || !got.Losses[0].Until.After(got.Losses[0].Since) {
		t.Errorf("the losses are %+v, want three packets and one", got.Losses)
	}
	if got.GapMillis < 4 {
		t.Errorf("three packets 2 ms apart are missing and the longest gap is %.1f ms", got.GapMillis)
	}
}

func TestTraceIgnoresStrangers(t *testing.T) {
	seen := trace{sent: []time.Duration{1, 2}, back: make([]time.Duration, 2)}
	seen.note(1<<63, 5)
	seen.note(2, 5)
	seen.note(1, 7)
	if got := seen.loss(); got.Received != 1 || got.Lost != 1 || got.FirstLost[0] != 1 {
		t.Errorf("%+v", got)
	}
}

func TestPingTellsWhoAnswers(t *testing.T) {
	addr := serve(t)
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	row := Ping(t.Context(), []string{addr, mute.LocalAddr().String(), "nonsense"}, 3)
	if row[0].Received != 3 || row[0].P50 <= 0 {
		t.Errorf("the server that answers: %+v", row[0])
	}
	if row[1].Sent != 3 || row[1].Received != 0 {
		t.Errorf("the server that does not: %+v", row[1])
	}
	if row[2].Error == "" {
		t.Errorf("an address that is none: %+v", row[2])
	}
}

func TestServerCloseEndsConnections(t *testing.T) {
	s, err := Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), s.Addr(), modeEcho)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on after the server was closed")
	}
	if s.admit(c) {
		t.Error("a closed server admits a connection")
	}
}

// TestArrivals: who tells its name before the collector listens tries again; all are told, each at its moment.
func TestArrivals(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	begin := time.Now()
	told := make(chan error, 2)
	go func() { told <- Arrive(t.Context(), addr, "early") }()
	go func() { told <- Arrive(t.Context(), addr, "other") }()
	arrived, err := Collect(t.Context(), addr, 2)
	if err != nil || len(arrived) != 2 || arrived["early"].Before(begin) || arrived["other"].After(time.Now()) {
		t.Errorf("arrived: %v, %v", arrived, err)
	}
	for range 2 {
		if err := <-told; err != nil {
			t.Error(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Arrive(ended, addr, "late"); err == nil {
		t.Error("nobody listens, and somebody arrived")
	}
	if arrived, err := Collect(ended, addr, 1); err != nil || len(arrived) != 0 {
		t.Errorf("nobody came: %v, %v", arrived, err)
	}
}
