package scale_test

import (
	"fmt"
	"math"
	"strings"
)

// line is one figure over the number of hosts.
type line struct {
	name string
	of   func(point) float64
}

// panel is one diagram with two logarithmic axes.
type panel struct {
	title string
	lines []line
}

var panels = []panel{
	{"boot together: seconds until all have …", []line{
		{"all facts", func(p point) float64 { return p.Facts.Seconds() }},
		{"a full mesh", func(p point) float64 { return p.Mesh.Seconds() }},
		{"docker run, p99", func(p point) float64 { return p.Run.P99.Seconds() }},
	}},
	{"idle: bytes a second", []line{
		{"a host", func(p point) float64 { return p.Idle }},
		{"the leader", func(p point) float64 { return p.IdleLeader }},
	}},
	{"bytes in the whole cluster", []line{
		{"one event", func(p point) float64 { return float64(p.EventBytes) }},
		{"a newcomer", func(p point) float64 { return float64(p.NewcomerBytes) }},
		{"an agent's restart", func(p point) float64 { return float64(p.RestartBytes) }},
	}},
	{"one agent", []line{
		{"heap, bytes", func(p point) float64 { return float64(p.Heap) }},
		{"bytes to boot", func(p point) float64 { return float64(p.BootBytes) }},
	}},
}

// Sizes of the picture, in its units.
const (
	panelWidth, panelHeight = 420.0, 280.0
	plotLeft, plotTop       = 56.0, 34.0
	plotWidth, plotHeight   = 230.0, 200.0
)

var colours = []string{"#1b6ca8", "#c1440e", "#3a7d44"}

// picture is the curve as SVG: equal points give equal bytes.
func picture(curve []point) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12">`+"\n", 2*panelWidth, 2*panelHeight)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%g %g)">`+"\n", float64(i%2)*panelWidth, float64(i/2)*panelHeight)
		p.draw(&b, curve)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// decades are the powers of ten around some values; zero and less have no place.
func decades(values []float64) (from, to float64) {
	from, to = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if v > 0 {
			from, to = min(from, math.Floor(math.Log10(v))), max(to, math.Ceil(math.Log10(v)))
		}
	}
	if from > to {
		return 0, 1
	}
	return from, max(to, from+1)
}

func (p panel) draw(b *strings.Builder, curve []point) {
	var hosts, values []float64
	for _, at := range curve {
		hosts = append(hosts, float64(at.Hosts))
		for _, l := range p.lines {
			values = append(values, l.of(at))
		}
	}
	left, right := decades(hosts)
	bottom, top := decades(values)
	x := func(v float64) float64 { return plotLeft + (math.Log10(v)-left)/(right-left)*plotWidth }
	y := func(v float64) float64 { return plotTop + plotHeight - (math.Log10(v)-bottom)/(top-bottom)*plotHeight }
	fmt.Fprintf(b, `<text x="%g" y="20" font-weight="bold">%s</text>`+"\n", plotLeft, p.title)
	for e := left; e <= right; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(b, `<path d="M%.1f %g v%g" stroke="#ddd"/><text x="%.1f" y="%g" text-anchor="middle">%s</text>`+"\n", x(v), plotTop, plotHeight, x(v), plotTop+plotHeight+16, size(v))
	}
	for e := bottom; e <= top; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(b, `<path d="M%g %.1f h%g" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end">%s</text>`+"\n", plotLeft, y(v), plotWidth, plotLeft-6, y(v)+4, size(v))
	}
	fmt.Fprintf(b, `<text x="%g" y="%g" text-anchor="middle">hosts</text>`+"\n", plotLeft+plotWidth/2, plotTop+plotHeight+32)
	for i, l := range p.lines {
		var points []string
		for _, at := range curve {
			if v := l.of(at); v > 0 {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(float64(at.Hosts)), y(v)))
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(float64(at.Hosts)), y(v), colours[i])
			}
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colours[i])
		fmt.Fprintf(b, `<text x="%g" y="%g" fill="%s">%s</text>`+"\n", plotLeft+plotWidth+10, plotTop+12+18*float64(i), colours[i], l.name)
	}
}
