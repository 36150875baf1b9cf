package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// write writes the report for programs or for people.
func write(w io.Writer, r Report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	_, err := io.WriteString(w, text(r))
	return err
}

// text is the report for people.
func text(r Report) string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "\nOne machine, two hosts in namespaces: %d CPUs, Linux %s, Docker %s, load %s before the run.\n", m.CPUs, m.Kernel, m.Docker, m.Load)
	fmt.Fprintf(&b, "Medians of %d rounds; in brackets the range of the middle half of the ratios.\n", m.Rounds)
	if busy(m) {
		b.WriteString("The machine was busy: trust ratios with a narrow range only, or run again when it is idle.\n")
	}
	t := tabwriter.NewWriter(&b, 2, 8, 3, ' ', 0)
	section(t, fmt.Sprintf("ONE TCP STREAM, %g s", m.Seconds), overVXLAN, r.Throughput, func(v float64) string { return fmt.Sprintf("%.2f Gbit/s", v/1e9) })
	section(t, fmt.Sprintf("TCP ROUND TRIP, p50 of %d", m.RoundTrips), overVXLAN, r.P50, micros)
	section(t, fmt.Sprintf("TCP ROUND TRIP, p99 of %d", m.RoundTrips), overVXLAN, r.P99, micros)
	section(t, fmt.Sprintf("DOCKER RUN --RM, %d times", m.Rounds*m.Starts), onOwnBridge, r.DockerRun, func(v float64) string { return fmt.Sprintf("%.0f ms", v*1e3) })
	nameSections(t, r)
	crowdSections(t, r)
	addressSections(t, r)
	_ = t.Flush() // a strings.Builder takes everything
	return b.String()
}

func nameSections(w io.Writer, r Report) {
	millis := func(v float64) string { return fmt.Sprintf("%.0f ms", v*1e3) }
	narrow(w, "FROM DOCKER RUN UNTIL IT HAS REACHED ANOTHER HOST", overSwarm, r.Reached, millis)
	narrow(w, "FROM DOCKER START UNTIL ITS NAME IS FOUND ELSEWHERE", overSwarm, r.Found, millis)
	narrow(w, "FROM DOCKER KILL UNTIL ITS NAME IS GONE ELSEWHERE", overSwarm, r.Gone, millis)
	fmt.Fprintf(w, "\nLOOKUP IN A CONTAINER, p50 of %d\t\tto %s\tto %s\n", lookups, titles[dockersName], titles[throughDocker])
	for _, f := range r.Lookup {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", titles[f.Of], micros(f.Median), f.To[dockersName], f.To[throughDocker])
	}
}

func crowdSections(w io.Writer, r Report) {
	if r.Machine.Crowd == 0 {
		return
	}
	unit := func(v float64) string { return fmt.Sprintf("%.2f s", v) }
	narrow(w, fmt.Sprintf("%d CONTAINERS ON THREE HOSTS AT ONCE, from docker start until one reaches another host, p50", r.Machine.Crowd), overSwarm, r.CrowdReached, unit)
	narrow(w, "... UNTIL THE LAST OF THEM DOES", overSwarm, r.CrowdLast, unit)
	narrow(w, "... PROCESSOR TIME OF DOCKERD AND AGENTS FOR EACH", overSwarm, r.CrowdProcessor, func(v float64) string { return fmt.Sprintf("%.1f ms", v*1e3) })
}

func addressSections(w io.Writer, r Report) {
	m := r.Machine
	narrow(w, fmt.Sprintf("ADDRESS, p50 of %d", m.Addresses), oneSync, r.AddressP50, micros)
	narrow(w, fmt.Sprintf("ADDRESS, p99 of %d", m.Addresses), oneSync, r.AddressP99, micros)
	perSecond := func(v float64) string { return fmt.Sprintf("%.0f /s", v) }
	fmt.Fprintf(w, "\nADDRESSES PER SECOND\t\tto one caller\n")
	for _, f := range r.AddressRate {
		base := request
		if f.Of == release || f.Of == releaseMany {
			base = release
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", titles[f.Of], perSecond(f.Median), f.To[base])
	}
	fmt.Fprintf(w, "\nPROCESSOR TIME OF A CALL\t\tso that %d processors do\n", m.CPUs)
	for _, f := range r.Processor {
		fmt.Fprintf(w, "%s\t%s\tat most %s\n", titles[f.Of], micros(f.Median), perSecond(1e6*float64(m.CPUs)/f.Median))
	}
	narrow(w, fmt.Sprintf("BLOCK GRANT, %d times", m.Rounds*grants), oneSync, r.Grant, micros)
	narrow(w, fmt.Sprintf("DOCKER NETWORK CONNECT, %d times", m.Rounds*m.Starts), byBuiltIn, r.Connect, func(v float64) string { return fmt.Sprintf("%.1f ms", v*1e3) })
}

// narrow is a table with ratios to one base only.
func narrow(w io.Writer, title, base string, all []Figure, unit func(float64) string) {
	fmt.Fprintf(w, "\n%s\t\tto %s\n", title, titles[base])
	for _, f := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", titles[f.Of], unit(f.Median), f.To[base])
	}
}

// busy reports whether others kept more than a quarter of the processors before the run.
func busy(m Machine) bool {
	load, err := strconv.ParseFloat(m.Load, 64)
	return err == nil && load > float64(m.CPUs)/4
}

func micros(v float64) string { return fmt.Sprintf("%.1f µs", v) }

// section is one table: figures, and their ratios to a base and to the swarm overlay.
func section(w io.Writer, title, base string, all []Figure, unit func(float64) string) {
	fmt.Fprintf(w, "\n%s\t\tto %s\tto %s\n", title, titles[base], titles[overSwarm])
	for _, f := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", titles[f.Of], unit(f.Median), f.To[base], f.To[overSwarm])
	}
}

// String is the ratio with its range, "0.97 (0.95-1.01)", without one when it is that
// of a figure to itself or of a single round.
func (r Ratio) String() string {
	switch {
	case r == (Ratio{}):
		return "-"
	case r.Low == r.High:
		return fmt.Sprintf("%.2f", r.Median)
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", r.Median, r.Low, r.High)
}
