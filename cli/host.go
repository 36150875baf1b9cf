package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
)

func hostCommand() *cobra.Command {
	return group("host", "manage the hosts of the cluster", hostRemoveCommand(), hostLeaveCommand(), hostNewIdentityCommand())
}

func hostNewIdentityCommand() *cobra.Command {
	var r api.IdentityReset
	cmd := &cobra.Command{
		Use:   "new-identity",
		Short: "make this host a new one if it is a clone or its disk is an older copy",
		Long: `Gives the host on which it is run a new identity; its disk and its running containers
stay. Use it on a machine that was cloned, or whose disk was restored from an older
copy: two machines cannot be one host, and weft status on the one that hands out
nothing says so. A host that was removed from the cluster does this by itself.

The new host joins its networks anew and asks for the addresses of its containers one
by one. Where another host has one, that container is taken off the network, and weft
status names it and who has its address.

If no other machine runs as the old host any more, remove that one afterwards with
weft host rm ID --is-off: until then its addresses stay its own.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&r.Force, "force", false, "take a new identity even if the ledger accepts the present one")
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, dryRunUsage)
	return order(cmd, soon, func(ctx context.Context, agent api.Client, _ []string) (string, error) {
		return agent.NewIdentity(ctx, r)
	})
}

func hostRemoveCommand() *cobra.Command {
	var r api.Removal
	cmd := &cobra.Command{
		Use:   "rm HOST",
		Short: "remove a dead host for good, which frees its blocks of addresses",
		Long: `Removes a host, given by its name or id, from the cluster for good. Without
--is-off this is refused until the host's lease of 24 hours has run out, because
until then it may hand out addresses of its blocks.

With --is-off you confirm that the machine is off; a host that still answers is not
removed. If it comes back it learns of its
removal as soon as it reaches any other host; do not start it where it reaches none. It
then becomes a new host by itself and asks for the addresses of its running containers.`,
		Args: one("host (its name or id)", "weft status lists the hosts"),
	}
	cmd.Flags().BoolVar(&r.IsOff, "is-off", false, "confirm that the machine is off, and remove it before its lease runs out")
	return order(cmd, soon, func(ctx context.Context, agent api.Client, args []string) (string, error) {
		r.Host = args[0]
		return agent.RemoveHost(ctx, r)
	})
}

func hostLeaveCommand() *cobra.Command {
	var d api.Departure
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "take this host out of the cluster in order",
		Long: `Takes the host on which it is run out of its cluster. It refuses while containers have
addresses on it, and names them. If the host keeps the ledger, another host takes over
first. Then one decision ends its membership, and its blocks of addresses are free at
once. The host hands out no addresses any more; to let it join again as a new host, run
weft host new-identity on it.

With --force running containers lose the network, and their addresses become free.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&d.Force, "force", false, "leave although containers on this host have addresses")
	return order(cmd, time.Minute, func(ctx context.Context, agent api.Client, _ []string) (string, error) {
		return agent.Leave(ctx, d)
	})
}
