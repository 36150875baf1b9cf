package scale_test

import (
	"fmt"
	"strings"
	"time"
)

// report is the outcome of a run.
type report struct {
	Machine string  `json:"machine"`
	Curve   []point `json:"curve"`
	Costs   []cost  `json:"costs"` // of one real agent: in an empty cluster, and in full ones
}

// row is one figure of a table, for each of its columns.
type row[T any] struct {
	name string
	of   func(T) string
}

// table adds a table of Markdown, unless it has no columns.
func table[T any](b *strings.Builder, title string, columns []T, head func(T) string, rows []row[T]) {
	if len(columns) == 0 {
		return
	}
	fmt.Fprintf(b, "| %s |", title)
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", head(c))
	}
	fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(columns)))
	for _, r := range rows {
		fmt.Fprintf(b, "| %s |", r.name)
		for _, c := range columns {
			fmt.Fprintf(b, " %s |", r.of(c))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// text is the report as tables of Markdown.
func (r report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", r.Machine)
	table(&b, "whole agents, virtual time; hosts x endpoints", r.Curve, func(p point) string { return fmt.Sprintf("%d x %d", p.Hosts, p.Endpoints) }, curveRows)
	table(&b, "one real agent; other hosts x endpoints", r.Costs, func(c cost) string { return fmt.Sprintf("%d x %d", c.Hosts, c.Endpoints) }, costRows)
	return b.String()
}

var curveRows = []row[point]{
	{"boot together, empty disks: all hosts serve containers", func(p point) string { return span(p.Ready) }},
	{"… all have the facts of all", func(p point) string { return span(p.Facts) }},
	{"… all see all others", func(p point) string { return span(p.Mesh) }},
	{"… all have the network in their Docker", func(p point) string { return span(p.Network) }},
	{"… bytes sent by each", func(p point) string { return size(float64(p.BootBytes)) }},
	{"… connections dialled, all", func(p point) string { return fmt.Sprint(p.BootDials) }},
	{"… processor of each, with what the simulation takes", func(p point) string { return span(p.BootCPU) }},
	{"`docker run` while they boot, the plugin's part, p50 / p99", func(p point) string { return p.Run.text() }},
	{"`docker run` at once after all lost power, p50 / p99", func(p point) string { return p.RunAgain.text() }},
	{"idle: bytes/s of a host", func(p point) string { return size(p.Idle) }},
	{"idle: bytes/s of the ledger's leader", func(p point) string { return size(p.IdleLeader) }},
	{"idle: datagrams/s of a host", func(p point) string { return fmt.Sprintf("%.1f", p.IdleDatagrams) }},
	{"idle: processor of a host, with what the simulation takes", func(p point) string { return share(p.IdleCPU) }},
	{"one event until all have it", func(p point) string { return span(p.Event) }},
	{"… bytes sent by all / datagrams", func(p point) string { return fmt.Sprintf("%s / %d", size(float64(p.EventBytes)), p.EventDatagrams) }},
	{"… processor / allocations of each host", func(p point) string { return fmt.Sprintf("%s / %d", span(p.EventCPU), p.EventAllocs) }},
	{"a newcomer has all facts after", func(p point) string { return span(p.Newcomer) }},
	{"… bytes sent by all meanwhile / connections", func(p point) string { return fmt.Sprintf("%s / %d", size(float64(p.NewcomerBytes)), p.NewcomerDials) }},
	{"an agent that starts again has all facts after", func(p point) string { return span(p.Restart) }},
	{"… bytes sent by all meanwhile / connections", func(p point) string { return fmt.Sprintf("%s / %d", size(float64(p.RestartBytes)), p.RestartDials) }},
	{"… of them members compared / members told / heads and digests", func(p point) string {
		return size(float64(p.RestartOf[compared])) + " / " + size(float64(p.RestartOf[told])) + " / " + size(float64(p.RestartOf[digests]))
	}},
	{"heap of an agent", func(p point) string { return size(float64(p.Heap)) }},
}

var costRows = []row[cost]{
	{"the kernel has all entries after", func(c cost) string { return span(c.Fill) }},
	{"… processor until then", func(c cost) string { return span(c.FillCPU) }},
	{"memory (RSS), idle / peak", func(c cost) string { return size(float64(c.RSS)) + " / " + size(float64(c.Peak)) }},
	{"processor, idle, with all hosts' lease renewals", func(c cost) string { return share(c.Idle) }},
	{"one event until it is in the kernel, p50 / p99", func(c cost) string { return c.Event.text() }},
	{"processor of one event", func(c cost) string { return span(c.EventCPU) }},
	{"processor, ten events a second in the cluster", func(c cost) string { return share(c.EventsCPU) }},
	{"Join, idle, p50 / p99", func(c cost) string { return c.JoinIdle.text() }},
	{"Join during ten events a second, p50 / p99", func(c cost) string { return c.JoinBusy.text() }},
}

func (q quantiles) text() string {
	out := span(q.P50) + " / " + span(q.P99)
	if q.Failed > 0 {
		out += fmt.Sprintf(", %d refused", q.Failed)
	}
	return out
}

// span is a time with two or three digits.
func span(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
}

// size is bytes with a unit.
func size(n float64) string {
	for _, unit := range []string{"", " k", " M"} {
		if n < 1000 {
			return fmt.Sprintf("%.3g%s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.3g G", n)
}

func share(of float64) string { return fmt.Sprintf("%.2f %%", of*100) }
