package bench

import "slices"

// Machine is where and how the figures were taken.
type Machine struct {
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	Docker string `json:"docker"`
	// Load is the machine's load average of the minute before the run.
	Load string `json:"load_before"`
	// Rounds is how often each path was measured, Seconds how long each stream ran.
	Rounds  int     `json:"rounds"`
	Seconds float64 `json:"stream_seconds"`
	// Connections is how many connections of RoundTrips each a round makes on each path,
	// Starts how often it starts a container on each network.
	Connections int `json:"connections_per_round"`
	RoundTrips  int `json:"round_trips"`
	Starts      int `json:"starts_per_round"`
	// Addresses is how many addresses one caller asks for in a round.
	Addresses int `json:"addresses_per_round"`
	// Crowd is how many containers are started at once, 0 if none are.
	Crowd int `json:"crowd"`
}

// Ratio of a figure to another one: the median of the ratios of measurements that were
// taken one after the other, and the quartiles that the middle half of them lies between.
type Ratio struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Figure is the median of what was measured of one path or network.
type Figure struct {
	Of     string  `json:"of"`
	Median float64 `json:"median"`
	// To are ratios by what the figure is compared with.
	To map[string]Ratio `json:"ratio_to"`
}

// Report is the outcome of a run.
type Report struct {
	Machine Machine `json:"machine"`
	// Throughput of one TCP stream in bits per second.
	Throughput []Figure `json:"throughput_bits_per_second"`
	// P50 and P99 are round trips of one byte over TCP in microseconds, both ends on one
	// processor.
	P50 []Figure `json:"round_trip_p50_us"`
	P99 []Figure `json:"round_trip_p99_us"`
	// DockerRun is how long "docker run --rm IMAGE true" takes, in seconds.
	DockerRun []Figure `json:"docker_run_seconds"`
	// Reached is how long after "docker run" the container has reached one on another host and been answered,
	// in seconds.
	Reached []Figure `json:"reached_seconds"`
	// Found is how long after "docker start" the name of a container is found on another host,
	// Gone how long after "docker kill" it is not, in seconds. Lookup is a question in a
	// container, p50 in microseconds.
	Found  []Figure `json:"name_found_seconds"`
	Gone   []Figure `json:"name_gone_seconds"`
	Lookup []Figure `json:"lookup_p50_us"`
	// CrowdReached is how long each of many containers that start at once takes from the call to Docker until
	// it reaches another host, p50, and CrowdLast until the last of them does, in seconds. CrowdProcessor is
	// the processor time of dockerd and agents, and of the agents alone, for each, in seconds.
	CrowdReached   []Figure `json:"crowd_reached_seconds,omitempty"`
	CrowdLast      []Figure `json:"crowd_last_seconds,omitempty"`
	CrowdProcessor []Figure `json:"crowd_processor_seconds,omitempty"`
	// AddressP50 and AddressP99 are calls over the plugin's socket by one caller and by
	// 16 at once, and one fdatasync of the same disk, in microseconds.
	AddressP50 []Figure `json:"address_p50_us"`
	AddressP99 []Figure `json:"address_p99_us"`
	// AddressRate is how many of them are answered in a second.
	AddressRate []Figure `json:"addresses_per_second"`
	// Processor is how long one call of 16 callers keeps a processor busy, that of the
	// callers included, in microseconds.
	Processor []Figure `json:"address_processor_us"`
	// Grant is a call that waits for a block of the ledger's, in microseconds.
	Grant []Figure `json:"block_grant_us"`
	// Connect is "docker network connect" with a network driver that does nothing, in
	// seconds, by IPAM.
	Connect []Figure `json:"network_connect_seconds"`
}

// sample is one measurement of everything that is compared, taken in one go.
type sample map[string]float64

// samples are all that a run took.
type samples struct {
	throughput, p50, p99, starts                   []sample
	addressP50, addressP99, addressRate, processor []sample
	grants, connects                               []sample
	reached, found, gone, lookups                  []sample
	crowdReached, crowdLast, crowdProcessor        []sample
}

func summarize(m Machine, s samples) Report {
	overPaths := func(all []sample) []Figure { return figures(paths, []string{overVXLAN, overSwarm}, all) }
	crowd := func(of []string, all []sample) []Figure {
		if len(all) == 0 {
			return nil
		}
		return figures(of, []string{overSwarm}, all)
	}
	return Report{
		Machine: m, Throughput: overPaths(s.throughput), P50: overPaths(s.p50), P99: overPaths(s.p99),
		DockerRun: figures(networks, []string{onOwnBridge, overSwarm}, s.starts),
		Reached:   figures(overlays, []string{overSwarm}, s.reached),
		Found:     figures(overlays, []string{overSwarm}, s.found), Gone: figures(overlays, []string{overSwarm}, s.gone),
		Lookup:       figures(lookedUp, []string{dockersName, throughDocker}, s.lookups),
		CrowdReached: crowd(overlays, s.crowdReached), CrowdLast: crowd(overlays, s.crowdLast), CrowdProcessor: crowd(append(overlays[:2:2], overAgents), s.crowdProcessor),
		AddressP50: figures(timed, []string{oneSync}, s.addressP50), AddressP99: figures(timed, []string{oneSync}, s.addressP99),
		AddressRate: figures(rated, []string{request, release}, s.addressRate),
		Processor:   figures(costed, nil, s.processor),
		Grant:       figures(granted, []string{oneSync}, s.grants),
		Connect:     figures(connected, []string{byBuiltIn}, s.connects),
	}
}

// figures are the medians of what was measured, with the ratios to each base.
func figures(of, bases []string, all []sample) []Figure {
	var out []Figure
	for _, name := range of {
		f := Figure{Of: name, Median: median(column(all, name)), To: map[string]Ratio{}}
		for _, base := range bases {
			f.To[base] = ratio(all, name, base)
		}
		out = append(out, f)
	}
	return out
}

func column(all []sample, name string) []float64 {
	out := make([]float64, len(all))
	for i, s := range all {
		out[i] = s[name]
	}
	return out
}

func ratio(all []sample, name, base string) Ratio {
	var each []float64
	for _, s := range all {
		if s[base] > 0 {
			each = append(each, s[name]/s[base])
		}
	}
	if len(each) == 0 {
		return Ratio{}
	}
	slices.Sort(each)
	return Ratio{Median: median(each), Low: each[(len(each)-1)/4], High: each[len(each)-1-(len(each)-1)/4]}
}

// median is the middle value, between the two in the middle of an even number, 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}
