package lab

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteStatus writes what runs and which links are cut, for people.
func (l *Lab) WriteStatus(ctx context.Context, w io.Writer) error {
	r, err := l.book.read()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "state\t%s\nswitch\t%s\n\n", l.cfg.Dir, state(r.Switch))
	fmt.Fprintln(t, "HOST\tADDRESS\tPOWER\tCONTAINERD\tDOCKERD\tPLUGIN")
	for _, n := range r.numbers() {
		h, host := r.Hosts[n], l.Host(n)
		plugin := "-"
		if h.Dockerd.Alive() {
			plugin = "not installed"
			if pid, err := host.Agent(ctx); err == nil {
				plugin = fmt.Sprintf("runs, process %d of the host", pid)
			} else if _, err := host.pluginID(ctx); err == nil {
				plugin = "does not run"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", host.Name(), host.Addr4(), state(h.Holder), state(h.Containerd), state(h.Dockerd), plugin)
	}
	for _, a := range r.Cuts {
		fmt.Fprintf(t, "cut: %s to %s\n", endName(a.From), endName(a.To))
	}
	return t.Flush()
}

func state(p Process) string {
	if p.Alive() {
		return fmt.Sprintf("runs, process %d", p.PID)
	}
	return "off"
}

func endName(n int) string {
	if n == Switch {
		return "gateway"
	}
	return hostName(n)
}
