package demo

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/lab"
)

// cell is what one container found out about another.
type cell struct {
	rtt time.Duration // average of five pings
	err error
}

// matrix is who reaches whom, by host.
type matrix struct {
	addrs []netip.Addr
	cells [][]cell
}

// probe fetches a page by the overlay address and by the container's name, and times round
// trips to it.
func probe(ctx context.Context, from *lab.Host, to netip.Addr, name string) cell {
	err := fetch(ctx, from, netip.AddrPortFrom(to, 80).String(), name)
	if err == nil {
		// The names of a container that has just started are on their way.
		err = lab.Until(ctx, namesWithin, func() error { return fetch(ctx, from, name, name) })
	}
	if err != nil {
		return cell{err: err}
	}
	out, err := from.Docker(ctx, "exec", webName(from), "ping", "-c", "5", "-i", "0.1", "-q", "-W", "2", to.String())
	if err != nil {
		return cell{err: err}
	}
	rtt, err := pingTime(out)
	return cell{rtt: rtt, err: err}
}

// namesWithin is how long names may take to be known everywhere.
const namesWithin = 5 * time.Second

// fetch fetches the page of a server from a host's container.
func fetch(ctx context.Context, from *lab.Host, server, want string) error {
	page, err := from.Docker(ctx, "exec", webName(from), "timeout", "5", "wget", "-q", "-O", "-", "http://"+server+"/")
	if err == nil && page != want {
		err = fmt.Errorf("the page at %s is %q, want %q", server, page, want)
	}
	return err
}

// pingTime reads the average of busybox's last line, "round-trip min/avg/max =
// 0.064/0.069/0.075 ms".
func pingTime(out string) (time.Duration, error) {
	_, figures, ok := strings.Cut(out, "min/avg/max = ")
	parts := strings.Split(figures, "/")
	if !ok || len(parts) != 3 {
		return 0, fmt.Errorf("ping said %q", out)
	}
	d, err := time.ParseDuration(parts[1] + "ms")
	if err != nil {
		return 0, fmt.Errorf("ping said %q: %w", out, err)
	}
	return d, nil
}

// commands are how to play on in the lab of a state directory. The Makefile's
// targets are about the default one.
type commands struct{ lab, shell, down string }

func commandsFor(dir string) commands {
	if dir == lab.DefaultDir {
		return commands{lab: "build/lab", shell: "make demo-shell HOST=2", down: "make demo-down"}
	}
	tool := "build/lab --state " + dir
	return commands{lab: tool, shell: tool + " shell 2", down: tool + " down"}
}

// write is the report: status, matrix, and how to play on in the lab of dir.
func write(w io.Writer, r *api.Report, m matrix, dir string) error {
	var b strings.Builder
	b.WriteString("\n")
	if err := api.Text(&b, r); err != nil {
		return err
	}
	t := tabwriter.NewWriter(&b, 2, 8, 3, ' ', 0)
	fmt.Fprint(t, "\nWHO REACHES WHOM (page fetched by address and by name, round trip)\n\nfrom \\ to")
	for j, a := range m.addrs {
		fmt.Fprintf(t, "\tweb%d %s", j+1, a)
	}
	fmt.Fprintln(t)
	var failed []error
	for i, row := range m.cells {
		fmt.Fprintf(t, "web%d on host%d", i+1, i+1)
		for _, c := range row {
			if c.err != nil {
				failed = append(failed, c.err)
				fmt.Fprint(t, "\tNO")
				continue
			}
			fmt.Fprintf(t, "\tok %.3f ms", float64(c.rtt.Microseconds())/1000)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, err := range failed {
		fmt.Fprintf(&b, "NO: %v\n", err)
	}
	c := commandsFor(dir)
	t = tabwriter.NewWriter(&b, 2, 8, 3, ' ', 0)
	fmt.Fprintf(t, "\nPlay on:\n  %s\ta shell on host 2; try there:\n", c.shell)
	fmt.Fprintf(t, "  \t  docker run --rm -it --net %s weft/busybox ping web1\n", Network)
	fmt.Fprintf(t, "  \t  docker network create -d %s --ipam-driver %s other\n", lab.PluginName, lab.PluginName)
	fmt.Fprintf(t, "  %s cut 2\tcut host 2 off; %s heal 2\n", c.lab, c.lab)
	fmt.Fprintf(t, "  %s kill-agent 1\tkill -9 the agent of host 1, nothing stops\n", c.lab)
	fmt.Fprintf(t, "  %s\ttake it all down\n", c.down)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}
