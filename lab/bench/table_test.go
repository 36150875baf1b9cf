package bench

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func exampleReport() Report {
	m := Machine{CPUs: 4, Kernel: "6.1.0", Docker: "20.10.24", Load: "0.31", Rounds: 2, Seconds: 3, RoundTrips: 1000, Starts: 1, Addresses: 400}
	return summarize(m, example())
}

const exampleText = `
One machine, two hosts in namespaces: 4 CPUs, Linux 6.1.0, Docker 20.10.24, load 0.31 before the run.
Medians of 2 rounds; in brackets the range of the middle half of the ratios.

ONE TCP STREAM, 3 s                     to bare VXLAN device   to Docker's swarm overlay
Weft                     9.50 Gbit/s    0.95 (0.90-1.00)       1.06 (1.00-1.11)
Docker's swarm overlay   9.00 Gbit/s    0.90                   1.00
bare VXLAN device        10.00 Gbit/s   1.00                   1.11
bare underlay            11.50 Gbit/s   1.15 (1.10-1.20)       1.28 (1.22-1.33)
host to container        9.50 Gbit/s    0.95 (0.90-1.00)       1.06 (1.00-1.11)

TCP ROUND TRIP, p50 of 1000             to bare VXLAN device   to Docker's swarm overlay
Weft                          11.5 µs   1.15 (1.10-1.20)       0.96 (0.92-1.00)
Docker's swarm overlay        12.0 µs   1.20                   1.00
bare VXLAN device             10.0 µs   1.00                   0.83
bare underlay                 8.0 µs    0.80                   0.67
host to container             11.5 µs   1.15 (1.10-1.20)       0.96 (0.92-1.00)

TCP ROUND TRIP, p99 of 1000             to bare VXLAN device   to Docker's swarm overlay
Weft                          30.0 µs   1.50                   0.75
Docker's swarm overlay        40.0 µs   2.00                   1.00
bare VXLAN device             20.0 µs   1.00                   0.50
bare underlay                 10.0 µs   0.50                   0.25
host to container             30.0 µs   1.50                   0.75

DOCKER RUN --RM, 2 times              to bridge network of a user's   to Docker's swarm overlay
Weft                         500 ms   1.25                            0.92 (0.83-1.00)
Docker's swarm overlay       550 ms   1.38 (1.25-1.50)                1.00
bridge network of a user's   400 ms   1.00                            0.73 (0.67-0.80)
Docker's default bridge      320 ms   0.80                            0.59 (0.53-0.64)
no network                   300 ms   0.75                            0.55 (0.50-0.60)

FROM DOCKER RUN UNTIL IT HAS REACHED ANOTHER HOST            to Docker's swarm overlay
Weft                                                400 ms   0.80
Docker's swarm overlay                              500 ms   1.00

FROM DOCKER START UNTIL ITS NAME IS FOUND ELSEWHERE            to Docker's swarm overlay
Weft                                                  150 ms   0.33
Docker's swarm overlay                                450 ms   1.00

FROM DOCKER KILL UNTIL ITS NAME IS GONE ELSEWHERE            to Docker's swarm overlay
Weft                                                100 ms   0.50
Docker's swarm overlay                              200 ms   1.00

LOOKUP IN A CONTAINER, p50 of 500              to name on this host, Docker   to missing name, Docker
name on another host, Weft          50.0 µs    0.50                           0.25
name on this host, Docker           100.0 µs   1.00                           0.50
missing name, Weft                  250.0 µs   2.50                           1.25
missing name, Docker                200.0 µs   2.00                           1.00

ADDRESS, p50 of 400                     to one fdatasync
one fdatasync                100.0 µs   1.00
RequestAddress               160.0 µs   1.60 (1.50-1.70)
ReleaseAddress               120.0 µs   1.20
RequestAddress, 16 callers   800.0 µs   8.00
ReleaseAddress, 16 callers   700.0 µs   7.00

ADDRESS, p99 of 400                      to one fdatasync
one fdatasync                1000.0 µs   1.00
RequestAddress               1500.0 µs   1.50
ReleaseAddress               1200.0 µs   1.20
RequestAddress, 16 callers   2000.0 µs   2.00
ReleaseAddress, 16 callers   1900.0 µs   1.90

ADDRESSES PER SECOND                    to one caller
RequestAddress               5000 /s    1.00
RequestAddress, 16 callers   45000 /s   9.00 (8.00-10.00)
ReleaseAddress               6000 /s    1.00
ReleaseAddress, 16 callers   60000 /s   10.00

PROCESSOR TIME OF A CALL               so that 4 processors do
RequestAddress, 16 callers   80.0 µs   at most 50000 /s
ReleaseAddress, 16 callers   64.0 µs   at most 62500 /s

BLOCK GRANT, 20 times                               to one fdatasync
one fdatasync                           100.0 µs    1.00
RequestAddress that waits for a block   1000.0 µs   10.00 (9.00-11.00)

DOCKER NETWORK CONNECT, 2 times             to Docker's built-in IPAM
Weft's IPAM                       11.0 ms   1.10
Docker's built-in IPAM            10.0 ms   1.00
`

func TestTableForPeople(t *testing.T) {
	var out strings.Builder
	if err := write(&out, exampleReport(), false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleText, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTableSaysThatTheMachineWasBusy(t *testing.T) {
	for load, want := range map[string]bool{"0.99": false, "1.01": true, "14.2": true, "unknown": false} {
		r := exampleReport()
		r.Machine.Load = load
		if got := strings.Contains(text(r), "The machine was busy"); got != want {
			t.Errorf("a load of %s on 4 CPUs is called busy: %v", load, got)
		}
	}
}

func TestRatioInWords(t *testing.T) {
	for want, r := range map[string]Ratio{
		"-":                {},
		"0.97":             {Median: 0.97, Low: 0.97, High: 0.97},
		"0.97 (0.90-1.10)": {Median: 0.97, Low: 0.9, High: 1.1},
	} {
		if got := r.String(); got != want {
			t.Errorf("%+v is %q, want %q", r, got, want)
		}
	}
}

func TestJSONHasEverything(t *testing.T) {
	var out strings.Builder
	if err := write(&out, exampleReport(), true); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleReport(), back); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range []string{"throughput_bits_per_second", "round_trip_p50_us", "round_trip_p99_us", "docker_run_seconds", "ratio_to", "load_before", "address_p50_us", "address_p99_us", "addresses_per_second", "address_processor_us", "block_grant_us", "network_connect_seconds"} {
		if !strings.Contains(out.String(), `"`+name+`"`) {
			t.Errorf("no %q in\n%s", name, out.String())
		}
	}
}

func TestTableHasTheCrowdIfThereWasOne(t *testing.T) {
	const title = "300 CONTAINERS ON THREE HOSTS AT ONCE"
	if strings.Contains(text(exampleReport()), "CONTAINERS ON THREE") {
		t.Error("there was no crowd")
	}
	s := example()
	s.crowdReached, s.crowdLast = []sample{{overWeft: 1, overSwarm: 2}}, []sample{{overWeft: 30, overSwarm: 40}}
	s.crowdProcessor = []sample{{overWeft: 0.1, overSwarm: 0.2, overAgents: 0.01}}
	out := text(summarize(Machine{Crowd: 300}, s))
	for _, want := range []string{title, "1.00 s", "40.00 s", "of it Weft's agents", "10.0 ms"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
