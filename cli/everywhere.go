package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/mesos"
)

// roundWithin bounds one comparison: four requests, one of them for a list of all agents.
const roundWithin = 30 * time.Second

func everywhereCommand() *cobra.Command {
	var e mesos.Everywhere
	var marathon, master string
	var every time.Duration
	var once, asJSON bool
	cmd := &cobra.Command{
		Use:   "everywhere",
		Short: "keep an app of Marathon at one instance on each Mesos agent",
		Long: `Sets the instances of an app to the number of Mesos agents, again and again as agents
come and go, which Marathon itself cannot. The app must have the constraint
["hostname", "UNIQUE"] and no other. Agents that are deactivated do not count.

Begin with --dry-run. More agents count at once. Fewer agents count when they have been
fewer for --settle, because agents that restart and agents that a new master has not
heard of come back; with --once they count at once. No active agent at all counts as an
error. An app without instances is suspended and left alone.`,
		Example: `  weft mesos everywhere --marathon http://marathon:8080 --dry-run --once`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if e.Marathon, err = serverURL("--marathon", marathon); err != nil {
				return err
			}
			if master != "" {
				if e.Master, err = serverURL("--master", master); err != nil {
					return err
				}
			}
			if every < time.Second {
				return fmt.Errorf("--every %s: want a second or more", every)
			}
			report := reporter(cmd.OutOrStdout(), cmd.ErrOrStderr(), asJSON)
			if once {
				e.Settle = 0
				r, err := round(cmd.Context(), &e)
				if err != nil {
					return err
				}
				return report(r, nil)
			}
			return watch(cmd.Context(), &e, every, report)
		},
	}
	cmd.Flags().StringVar(&marathon, "marathon", "", "`URL` of Marathon")
	cmd.Flags().StringVar(&master, "master", "", "`URL` of a Mesos master, such as http://MASTER:5050; empty: the one that Marathon names")
	cmd.Flags().StringVar(&e.App, "app", "/weft", "`id` of the app")
	cmd.Flags().BoolVar(&e.DryRun, "dry-run", false, dryRunUsage)
	cmd.Flags().BoolVar(&once, "once", false, "compare once, and fail if that fails")
	cmd.Flags().DurationVar(&every, "every", 30*time.Second, "`time` between two comparisons")
	cmd.Flags().DurationVar(&e.Settle, "settle", 10*time.Minute, "`time` for which agents are missing before they count as gone")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each change")
	return cmd
}

func serverURL(flag, text string) (*url.URL, error) {
	at, err := url.Parse(text)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "" {
		return nil, fmt.Errorf("%s is %q, want a URL such as http://HOST:8080", flag, text)
	}
	return at, nil
}

func round(ctx context.Context, e *mesos.Everywhere) (mesos.Round, error) {
	ctx, cancel := context.WithTimeout(ctx, roundWithin)
	defer cancel()
	return e.Step(ctx, time.Now())
}

// watch compares again and again until it is told to end.
func watch(ctx context.Context, e *mesos.Everywhere, every time.Duration, report func(mesos.Round, error) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		r, err := round(ctx, e)
		if ctx.Err() != nil {
			return nil
		}
		if err := report(r, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// reporter prints each round that differs from the one before it, and each error that does.
func reporter(out, errs io.Writer, asJSON bool) func(mesos.Round, error) error {
	var last string
	return func(r mesos.Round, err error) error {
		text, to := r.String(), out
		if err != nil {
			text, to = "weft: "+api.Printable(err.Error())+"; trying on", errs
		}
		if text == last {
			return nil
		}
		last = text
		if err == nil && asJSON {
			return json.NewEncoder(to).Encode(r)
		}
		_, err = fmt.Fprintln(to, text)
		return err
	}
}
