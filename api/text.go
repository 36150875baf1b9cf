package api

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
)

// Text writes the report for people.
func Text(w io.Writer, r *Report) error {
	p := &printer{w: tabwriter.NewWriter(w, 2, 8, 2, ' ', 0), r: r}
	p.head()
	p.hosts()
	p.peers()
	for _, n := range r.Networks {
		p.network(n)
	}
	if p.err != nil {
		return fmt.Errorf("api: %w", p.err)
	}
	return p.w.Flush()
}

// printer keeps the first error, so that the layout reads without checks.
type printer struct {
	w   *tabwriter.Writer
	r   *Report
	err error
}

func (p *printer) f(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = oneLine(s)
		}
	}
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) head() {
	r := p.r
	p.f("weft %s on %s (%s)\n", r.Version, r.Name, r.Self.Short())
	p.f("cluster\t%s\t%s\n", clusterName(r), r.State)
	names := make([]string, 0, len(r.Ledger.Keepers))
	for _, k := range r.Ledger.Keepers {
		names = append(names, p.r.HostName(k))
	}
	p.f("ledger\t%s\tkeepers %s, leader %s, decided %d\n", r.Ledger.Role, orNone(names), r.HostName(r.Ledger.Leader), r.Ledger.Decided)
	if r.Ledger.Level > 0 {
		p.f("level\tfeature level %d%s\n", r.Ledger.Level, r.heldBack())
	}
	if len(r.Secrets) > 0 {
		p.f("secret\t%s\n", strings.Join(r.Secrets, ", "))
	}
	if len(r.Ranges) > 0 {
		p.f("ranges\t%s\n", strings.Join(rangeWords(r.Ranges), ", then "))
	}
	if r.NotReady != "" {
		p.f("not ready\t%s\n", r.NotReady)
	}
	if r.Datapath.Error != "" {
		p.f("datapath\tfailing\t%s\n", r.Datapath.Error)
	}
	if r.Datapath.Repaired > 0 {
		p.f("datapath\trepaired\t%d operations undid what somebody else had changed in the kernel\n", r.Datapath.Repaired)
	}
	for _, problem := range r.Problems {
		p.f("PROBLEM\t%s\n", problem)
	}
}

// mostOlder of the hosts with an older release are named.
const mostOlder = 8

// heldBack says which hosts keep the cluster's feature level below that of this agent's release.
func (r *Report) heldBack() string {
	var older []string
	for _, h := range r.Hosts {
		if h.State != removed && h.Level > 0 && h.Level < r.Level {
			older = append(older, r.HostName(h.ID))
		}
	}
	if len(older) == 0 {
		return ""
	}
	if more := len(older) - mostOlder; more > 0 {
		older = append(older[:mostOlder], fmt.Sprintf("%d more", more))
	}
	verb := "run"
	if len(older) == 1 {
		verb = "runs"
	}
	return fmt.Sprintf(" of %d: %s %s an older release", r.Level, strings.Join(older, ", "), verb)
}

func (p *printer) hosts() {
	p.f("\nHOST\tID\tUNDERLAY\tSTATE\tKEEPER\tVERSION\n")
	for _, h := range p.r.Hosts {
		p.f("%s\t%s\t%s\t%s\t%s\t%s\n", h.Name, h.ID.Short(), h.Underlay, h.State, yesNo(h.Keeper), h.Version)
	}
}

func (p *printer) peers() {
	if len(p.r.Peers) == 0 {
		return
	}
	p.f("\nPEER\tFROM\tALIVE\tADDRESSES\n")
	for _, e := range p.r.Peers {
		p.f("%s\t%s\t%d of %d\t%s\n", e.Peer, e.From, e.Alive, len(e.Addrs), e.words())
	}
}

// mostAddrs of a peer are shown.
const mostAddrs = 4

func (e Peer) words() string {
	var out []string
	for _, a := range e.Addrs[:min(len(e.Addrs), mostAddrs)] {
		out = append(out, a.String())
	}
	if len(e.Addrs) > mostAddrs {
		out = append(out, "…")
	}
	if e.Error != "" {
		out = append(out, "("+e.Error+")")
	}
	if e.Forgotten {
		out = append(out, "forgotten")
	}
	return orNone(out)
}

func (p *printer) network(n Network) {
	retired := ""
	if n.Retired {
		retired = "\tremoved by a user, is deleted with its last container"
	}
	p.f("\nNETWORK %s\tvni %d\tid %d%s\n", orDash(n.Name), n.VNI, n.ID, retired)
	for _, s := range n.Subnets {
		p.f("  subnet %s\tgateway %s\n", s.Prefix, addrText(s.Gateway))
		for _, h := range s.Shares {
			p.f("  share\t%s\t%d used, %d free, blocks %d, single %d\n", p.r.HostName(h.Host), h.Used, h.Free, h.Blocks, h.Claims)
		}
		for _, b := range s.Blocks {
			used := ""
			if b.Used != nil {
				used = fmt.Sprintf("%d used", *b.Used)
			}
			p.f("  block %s\t%s\t%s\n", b.Prefix, p.r.HostName(b.Owner), used)
		}
		for _, c := range s.Claims {
			p.f("  address %s\t%s\n", c.Addr, p.r.HostName(c.Owner))
		}
	}
	for _, d := range n.Disputes {
		p.f("  DISPUTE %s\t%s\t%s has it, %s on %s is off the network until one of them is stopped\n",
			d.Addr, p.r.HostName(d.Winner.Host), endpointName(d.Winner), endpointName(d.Loser), p.r.HostName(d.Loser.Host))
	}
	if len(n.Endpoints) == 0 {
		return
	}
	p.f("  ADDRESS\tHOST\tCONTAINER\tMAC\n")
	for _, e := range n.Endpoints {
		p.f("  %s\t%s\t%s\t%s\n", addrs(e), p.r.HostName(e.Host), endpointName(e), e.MAC)
	}
}

func rangeWords(ranges []RangeUse) []string {
	out := make([]string, 0, len(ranges))
	for _, u := range ranges {
		out = append(out, fmt.Sprintf("%s (%d used)", u.Prefix, u.Subnets))
	}
	return out
}

// Ranges writes the ranges for people, in the order in which they are used.
func Ranges(w io.Writer, ranges []RangeUse) error {
	p := &printer{w: tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)}
	p.f("RANGE\tSUBNETS\n")
	for _, u := range ranges {
		p.f("%s\t%d\n", u.Prefix, u.Subnets)
	}
	if p.err != nil {
		return fmt.Errorf("api: %w", p.err)
	}
	return p.w.Flush()
}

func clusterName(r *Report) string {
	if r.Cluster.IsZero() {
		return "none yet"
	}
	return r.Cluster.String()
}

func addrs(e Endpoint) string {
	var out []string
	for _, a := range []netip.Addr{e.V4, e.V6} {
		if a.IsValid() {
			out = append(out, a.String())
		}
	}
	return orNone(out)
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "none"
	}
	return a.String()
}

func endpointName(e Endpoint) string {
	if e.Name != "" {
		return e.Name
	}
	return string(e.ID[:min(12, len(e.ID))])
}

func orNone(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, " ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
