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
	return group("ledger", "show the record of decisions, or recover it", ledgerLogCommand(), ledgerRecoverCommand())
}

func ledgerLogCommand() *cobra.Command {
	var addr, subnet, since, until string
	var q api.HistoryQuery
	cmd := &cobra.Command{
		Use:   "log",
		Short: "show who was given what and when, and which containers had an address",
		Long: `Shows who was given which address space and when, by the ledger, and which containers
had an address, by the hosts on which they ran. The ledger remembers a week, each host
its last 300,000 containers. The end of the output says what is missing or forgotten.`,
		Example: `  weft ledger log --addr 10.40.0.7 --since 24h
  weft ledger log --host host-b --subnet 10.40.0.0/24 --json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&addr, "addr", "", "show only what concerns this `address`")
	cmd.Flags().StringVar(&subnet, "subnet", "", "show only what overlaps this `prefix`")
	cmd.Flags().StringVar(&q.Host, "host", "", "show only what concerns this host, by its `name or id`")
	cmd.Flags().StringVar(&since, "since", "", "show only what happened at this `time` or later: 24h for 24 hours ago, 2026-01-31T15:04:05Z or 2026-01-31")
	cmd.Flags().StringVar(&until, "until", "", "show only what happened at this `time` or earlier, in the forms of --since")
	cmd.Flags().IntVar(&q.Limit, "limit", 0, "print at most this `number` of lines, the newest ones; 0 = 1000")
	return query(cmd, func(ctx context.Context, agent api.Client, _ []string) (h *api.History, err error) {
		if q.Space, err = space(addr, subnet); err != nil {
			return nil, err
		}
		if q.Since, err = moment("--since", since); err != nil {
			return nil, err
		}
		if q.Until, err = moment("--until", until); err != nil {
			return nil, err
		}
		return agent.History(ctx, q)
	}, api.HistoryText)
}

// space is the prefix that --addr or --subnet covers. Without either it is the zero
// prefix, which covers everything.
func space(addr, subnet string) (netip.Prefix, error) {
	switch {
	case addr != "" && subnet != "":
		return netip.Prefix{}, errors.New("--addr and --subnet exclude each other: give one of them")
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

// moment reads the value of a flag: how long ago something was, or when.
func moment(flag, word string) (time.Time, error) {
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
	return time.Time{}, fmt.Errorf("%s %q: want how long ago it was (24h), or a time like 2026-01-31T15:04:05Z or 2026-01-31", flag, word)
}

func ledgerRecoverCommand() *cobra.Command {
	var r api.Recovery
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "make this host the only keeper after most keepers were lost for good",
		Long: `Makes this host the only keeper of the cluster's ledger, which continues from what
this host knows; the other hosts follow. The command is refused while a majority of the
keepers answers, on a host that knows less than another that answers, and until each
keeper that does not answer is named with --is-off. With --is-off you confirm that a
keeper's machine is off and that its disk will not come back. Such a host is removed
from the cluster; if it returns it becomes a new one.

Decisions that only the lost keepers knew are lost. Therefore the ledger gives out
nothing new until each host has declared what it holds. Running containers are not
affected.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringArrayVar(&r.Off, "is-off", nil, "confirm that this keeper's machine, by `name or id`, is off for good; repeat for each")
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, dryRunUsage)
	return order(cmd, 30*time.Second, func(ctx context.Context, agent api.Client, _ []string) (string, error) {
		return agent.RecoverLedger(ctx, r)
	})
}
