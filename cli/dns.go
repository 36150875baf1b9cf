package cli

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
)

const networkUsage = "the `network`, by its name or number"

func dnsCommand() *cobra.Command {
	return group("dns", "show the names of containers, and name what is outside of them", dnsListCommand(), dnsLookupCommand(), dnsAddCommand(), dnsRemoveCommand())
}

func dnsListCommand() *cobra.Command {
	var q api.NameQuery
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "list the names on all networks, and those that DNS cannot carry",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().StringVar(&q.Network, "network", "", "list only the names on this `network`, by its name or number")
	return query(cmd, func(ctx context.Context, agent api.Client, _ []string) ([]api.Name, error) {
		return agent.ListNames(ctx, q)
	}, api.NamesText)
}

func dnsLookupCommand() *cobra.Command {
	var q api.NameQuery
	cmd := &cobra.Command{
		Use:   "lookup NAME",
		Short: "answer as a container is answered, and say why",
		Long: `Looks a name up as a container on a network does, or without --network as the host
does, and says who answers, on which host, and since when its container is on the
network. NAME may be the name of a container, a service such as _80._tcp.web, or an
address, whose name is then looked up.`,
		Example: `  weft dns lookup store --network overlay --trace
  weft dns lookup 10.32.0.7`,
		Args: one("name or address", "weft dns ls lists the names"),
	}
	cmd.Flags().StringVar(&q.Network, "network", "", "ask as a container on this `network`, by its name or number")
	cmd.Flags().BoolVar(&q.Trace, "trace", false, "print who has the name, from which source, and why they do not answer, and what Docker's resolver says")
	return query(cmd, func(ctx context.Context, agent api.Client, args []string) ([]api.NameAnswer, error) {
		q.Name = args[0]
		return agent.LookupName(ctx, q)
	}, api.NameAnswers(&q.Trace))
}

func dnsAddCommand() *cobra.Command {
	var r api.StaticName
	cmd := &cobra.Command{
		Use:     "add NAME ADDRESS --network NETWORK",
		Short:   "give something outside of containers a name on a network",
		Example: `  weft dns add printer 192.0.2.7 --network overlay`,
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&r.Network, "network", "", networkUsage)
	return order(cmd, soon, func(ctx context.Context, agent api.Client, args []string) (string, error) {
		if err := readName(&r, args); err != nil {
			return "", err
		}
		return agent.AddName(ctx, r)
	})
}

func dnsRemoveCommand() *cobra.Command {
	var r api.StaticName
	cmd := &cobra.Command{
		Use:   "rm NAME [ADDRESS] --network NETWORK",
		Short: "take a name away that was added, from one address or from all",
		Args:  cobra.RangeArgs(1, 2),
	}
	cmd.Flags().StringVar(&r.Network, "network", "", networkUsage)
	return order(cmd, soon, func(ctx context.Context, agent api.Client, args []string) (string, error) {
		if err := readName(&r, args); err != nil {
			return "", err
		}
		return agent.RemoveName(ctx, r)
	})
}

func readName(r *api.StaticName, args []string) (err error) {
	r.Name = args[0]
	if len(args) > 1 {
		if r.Addr, err = netip.ParseAddr(args[1]); err != nil {
			return fmt.Errorf("%q is not an address; want one such as 192.0.2.7 or 2001:db8::7", args[1])
		}
	}
	return nil
}
