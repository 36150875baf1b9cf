package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
)

func networkCommand() *cobra.Command {
	return group("network", "manage the cluster's networks, beyond docker network", networkRemoveCommand())
}

func networkRemoveCommand() *cobra.Command {
	var r api.NetworkRemoval
	cmd := &cobra.Command{
		Use:   "rm NETWORK",
		Short: "remove a network from all hosts, whichever host created it",
		Long: `Removes a network, given by its name or its number, from all hosts: at once where no
container runs on it, elsewhere when its last container ends.

docker network rm does the same on the host that created the network. On another host
it removes the replica there, and the agent makes it again.`,
		Args: one("network (its name or number)", "weft status lists the networks"),
	}
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, dryRunUsage)
	return order(cmd, soon, func(ctx context.Context, agent api.Client, args []string) (string, error) {
		r.Network = args[0]
		return agent.RemoveNetwork(ctx, r)
	})
}
