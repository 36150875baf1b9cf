package cli

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
)

func rangeCommand() *cobra.Command {
	return group("range", "manage the ranges that networks without --subnet come from", rangeAddCommand(), rangeListCommand())
}

func rangeAddCommand() *cobra.Command {
	return order(&cobra.Command{
		Use:   "add PREFIX",
		Short: "add address space for networks without --subnet, such as 10.48.0.0/12 or fd00:5::/48",
		Args:  one("prefix", "weft range ls lists the present ones"),
	}, soon, func(ctx context.Context, agent api.Client, args []string) (string, error) {
		prefix, err := netip.ParsePrefix(args[0])
		if err != nil {
			return "", fmt.Errorf("%q is not a prefix; want one such as 10.48.0.0/12", args[0])
		}
		return agent.AddRange(ctx, api.Range{Prefix: prefix})
	})
}

func rangeListCommand() *cobra.Command {
	return query(&cobra.Command{
		Use:   "ls",
		Short: "list the ranges in the order in which they are used",
		Args:  cobra.NoArgs,
	}, func(ctx context.Context, agent api.Client, _ []string) ([]api.RangeUse, error) {
		r, err := agent.Report(ctx)
		if err != nil {
			return nil, err
		}
		return r.Ranges, nil
	}, api.Ranges)
}
