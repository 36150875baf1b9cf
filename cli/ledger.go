package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
)

func ledgerCommand() *cobra.Command {
	return group("ledger", "look into the record of decisions, and repair it", ledgerLogCommand(), ledgerRecoverCommand())
}

func ledgerLogCommand() *cobra.Command {
	var addr, subnet, since, until string
	var q api.HistoryQuery
	cmd := &cobra.Command{
		Use:   "log",
		Short: "show who was given what and when, and which containers had an address",
		Long: `Shows who was given which address space and when, by the ledger, and which containers
had an address, by the hosts on which they ran. The ledger remembers a week, each host
its last 300,000 containers. What is missing and what was forgotten is said at the end.`,
		Example: `  weft ledger log --addr 10.40.0.7 --since 24h
  weft ledger log --host host-b --subnet 10.40.0.0/24 --json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&addr, "addr", "", "only what concerns this `address`")
	cmd.Flags().StringVar(&subnet, "subnet", "", "only what overlaps this `prefix`")
	cmd.Flags().StringVar(&q.Host, "host", "", "only what concerns this host, by `name or id`")
	cmd.Flags().StringVar(&since, "since", "", "only what was at this `time` or later: 24h for 24 hours ago, 2026-01-31T15:04:05Z or 2026-01-31")
	cmd.Flags().StringVar(&until, "until", "", "only what was at this `time` or earlier, written as for --since")
	cmd.Flags().IntVar(&q.Limit, "limit", 0, "print at most this many lines, the newest ones; 0 = 1000")
	return query(cmd, func(ctx context.Context, agent api.Client, _ []string) (h *api.History, err error) {
		if q.Space, err = space(addr, subnet); err != nil {
			return nil, err
		}
		if q.Since, err = moment(since); err != nil {
			return nil, err
		}
		if q.Until, err = moment(until); err != nil {
			return nil, err
		}
		return agent.History(ctx, q)
	}, api.HistoryText)
}

// space is what an address or a prefix covers; neither is everything.
func space(addr, subnet string) (netip.Prefix, error) {
	switch {
	case addr != "" && subnet != "":
		return netip.Prefix{}, errors.New("--addr and --subnet: give one of them")
	case addr != "":
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("--addr %q: want an address such as 10.40.0.7", addr)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	case subnet != "":
		p, err := netip.ParsePrefix(subnet)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("--subnet %q: want a prefix such as 10.40.0.0/24", subnet)
		}
		return p.Masked(), nil
	}
	return netip.Prefix{}, nil
}

// moment reads how long ago something was, or when.
func moment(word string) (time.Time, error) {
	if word == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(word); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	for _, form := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if at, err := time.ParseInLocation(form, word, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; want how long ago it was (24h), or a time like 2026-01-31T15:04:05Z or 2026-01-31", word)
}

func ledgerRecoverCommand() *cobra.Command {
	var r api.Recovery
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "go on when the majority of the keepers is gone for good",
		Long: `Makes this host the keeper of the cluster's ledger, from what it knows of it, and
lets the other hosts follow. It refuses while a majority of the keepers answers, on a
host that knows less than another that answers, and as long as it cannot know whether
the others are gone: --is-off is your word that a keeper's machine is off and that its
disk will not come back. Such a host is removed from the cluster; if it returns it
becomes a new one.

What only the lost keepers had decided is forgotten. Therefore each host shows what it
holds before the ledger gives out anything new; what runs is not affected.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringArrayVar(&r.Off, "is-off", nil, "a lost keeper, by `name or id`, whose machine is off for good; repeat for each")
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, dryRunUsage)
	return order(cmd, 30*time.Second, func(ctx context.Context, agent api.Client, _ []string) (string, error) {
		return agent.RecoverLedger(ctx, r)
	})
}
