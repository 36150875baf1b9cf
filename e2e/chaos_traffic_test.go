package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

// flow is traffic between two hosts that goes on until it is stopped.
type flow struct {
	what     string
	from, to *lab.Host
	tcp      bool
	stop     func() error
	ended    chan error
	said     bytes.Buffer // when it has ended
}

// traffic starts packets and connections between the two hosts whose containers outlive dockerd: between
// containers, and between a container and the other host itself, in both directions.
func (c *chaos) traffic() {
	c.t.Helper()
	var a, b box
	for _, one := range c.steady {
		switch {
		case one.host == c.frail:
		case a.host == nil:
			a = one
		default:
			b = one
		}
	}
	six := c.addrs6(c.network, c.subnet6, a, b)
	onA, onB := c.own(a.host, c.network), c.own(b.host, c.network)
	c.background(b.host, filepath.Join(shared.dir, "probe"), "serve", "-addr", netip.AddrPortFrom(onB, 7000).String())
	eventually(c.t, healWithin, func(ctx context.Context) error { return pinged(ctx, a.host, onB) })
	c.t.Logf("traffic between %s (%s) and %s (%s)", a.host.Name(), onA, b.host.Name(), onB)
	inA, inB := c.entering(a), c.entering(b)
	c.flows = []*flow{
		c.flow("packets between containers", a.host, b.host, inA, b.addr.String(), false),
		c.flow("packets between containers, IPv6", b.host, a.host, inB, six[0].String(), false),
		c.flow("a connection between containers", b.host, a.host, inB, a.addr.String(), true),
		c.flow("a connection between containers, IPv6", a.host, b.host, inA, six[1].String(), true),
		c.flow("a connection of a host to a container", a.host, b.host, nil, b.addr.String(), true),
		c.flow("packets of a container to a host", a.host, b.host, inA, onB.String(), false),
	}
}

// entering are the arguments before a program that runs in the network namespace of a container.
func (s *scene) entering(b box) []string {
	s.t.Helper()
	return []string{"nsenter", "-t", s.docker(b.host, "inspect", "-f", "{{.State.Pid}}", b.name), "-n"}
}

// flow starts packets, or messages of one connection, to a probe's server.
func (s *scene) flow(what string, from, to *lab.Host, enter []string, target string, tcp bool) *flow {
	args := append([]string{"sh", "-c", `"$@" & read -r _; kill -TERM $!; wait $!`, "sh"}, enter...) // until its input ends
	args = append(args, filepath.Join(shared.dir, "probe"), "stream", fmt.Sprintf("-tcp=%t", tcp), "-every", "20ms", net.JoinHostPort(target, "7000"))
	f := &flow{what: fmt.Sprintf("%s, %s to %s", what, from.Name(), to.Name()), from: from, to: to, tcp: tcp, ended: make(chan error, 1)}
	in, stop := io.Pipe()
	f.stop = stop.Close
	go func() {
		f.ended <- from.Run(s.t.Context(), lab.Command{Args: args, Stdin: in, Stdout: &f.said, Stderr: &f.said})
	}()
	return f
}

// end stops a flow and says what became of it.
func (f *flow) end() (loss probe.Loss, err error) {
	err = f.stop()
	if err == nil {
		err = <-f.ended
	}
	if err == nil {
		err = json.Unmarshal(f.said.Bytes(), &loss)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", f.what, err, f.said.String())
	}
	return loss, err
}

// carried ends the traffic and checks it: no connection has broken, and packets were lost only while a cut
// parted their hosts.
func (c *chaos) carried() {
	c.t.Helper()
	for _, f := range c.flows {
		loss, err := f.end()
		if err != nil {
			c.t.Error(err)
			continue
		}
		c.judge(f, loss)
	}
}

// judge compares the holes of a flow with the cuts.
func (c *chaos) judge(f *flow, loss probe.Loss) {
	c.t.Helper()
	excused, longest := 0, time.Duration(0)
	for _, hole := range loss.Losses {
		if c.parted(f, hole) {
			excused += hole.Packets
			continue
		}
		c.t.Errorf("%s: %d packets were lost without a cut, from %.2f to %.2f s", f.what, hole.Packets,
			hole.Since.Sub(c.began).Seconds(), hole.Until.Sub(c.began).Seconds())
	}
	for _, hole := range loss.Silences {
		if !c.parted(f, hole) {
			longest = max(longest, hole.Until.Sub(hole.Since))
		}
	}
	if f.tcp && loss.Lost > 0 || loss.Sent < int(c.lasts/time.Second) {
		c.t.Errorf("%s: %d sent, %d lost", f.what, loss.Sent, loss.Lost)
	}
	said := "shorter than 0.25 s"
	if longest > 0 {
		said = fmt.Sprintf("%.2f s", longest.Seconds())
	}
	c.t.Logf("%s: %d sent, %d lost in cuts; longest gap outside of cuts %s", f.what, loss.Sent, excused, said)
}

// parted reports whether a cut of the flow's hosts explains a hole. A connection that begins to be silent in a cut may
// be so for long: TCP waits twice as long each time that it sends again, and then another cut may come.
func (c *chaos) parted(f *flow, hole probe.Hole) bool {
	return slices.ContainsFunc(c.cuts, func(cut past) bool {
		if !cut.Stops(f.from.Number(), f.to.Number()) && !cut.Stops(f.to.Number(), f.from.Number()) {
			return false
		}
		end := cut.until.Add(healWithin)
		return hole.Since.After(cut.since.Add(-time.Second)) && hole.Since.Before(end) && (f.tcp || hole.Until.Before(end))
	})
}
