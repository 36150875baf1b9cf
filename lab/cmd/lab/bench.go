package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/lab/bench"
)

func benchCommand(dir *string) *cobra.Command {
	var c bench.Config
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure Weft beside Docker's own networks and IPAM, a bare VXLAN device and a bare disk",
		Long: `Brings up two hosts, measures in turns, writes the report and takes the hosts down.

Without --state it has a state directory of its own, ` + bench.DefaultDir + `, so that a demo
may be up; for figures worth keeping nothing else should run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("state") {
				c.Dir = *dir
			}
			c.Out = cmd.OutOrStdout()
			c.Log = func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) }
			return bench.Run(cmd.Context(), c)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Plugin, "plugin", "build/plugin", "the plugin's directory, made by make plugin")
	flags.IntVar(&c.Rounds, "rounds", 12, "how often every path is measured")
	flags.DurationVar(&c.Duration, "duration", time.Second, "how long each stream runs")
	flags.IntVar(&c.Connections, "connections", 4, "how many connections each round times on each path")
	flags.IntVar(&c.RoundTrips, "round-trips", 4000, "how many round trips each connection makes")
	flags.IntVar(&c.Starts, "starts", 1, "how often each round runs docker run on each network")
	flags.IntVar(&c.Addresses, "addresses", 400, "how many addresses each round has one caller ask for")
	flags.IntVar(&c.Crowd, "crowd", 0, "how many containers on three hosts are started on each overlay at once; 0: none")
	flags.StringVar(&c.Probe, "probe", "", "a static probe program for the images (default: built with go)")
	flags.StringVar(&c.Document, "document", "", "a file, such as docs/benchmarks.md, to put the report into instead of the last one")
	flags.BoolVar(&c.JSON, "json", false, "write the report as JSON")
	flags.BoolVar(&c.Keep, "keep", false, "leave the hosts up")
	return cmd
}
