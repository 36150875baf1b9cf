package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/status"
)

func networkCommand() *cobra.Command {
	cmd := group("network", "manage the cluster's networks beside docker network")
	cmd.AddCommand(networkRemoveCommand())
	return cmd
}

func networkRemoveCommand() *cobra.Command {
	var socket string
	var r status.NetworkRemoval
	cmd := &cobra.Command{
		Use:   "rm NETWORK",
		Short: "remove a network from all hosts, whichever host created it",
		Long: `Removes a network, given by its name or its number, from all hosts: at once where no
container is on it, elsewhere with its last container.

docker network rm does the same on the host that created the network. On another host
it removes the replica there, which the agent makes again.`,
		Args: one("network (its name or number)", "weft status lists the networks"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			r.Network = args[0]
			text, err := status.RemoveNetwork(ctx, socket, r)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), text)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, "say what would happen")
	cmd.Flags().StringVar(&socket, "socket", status.SocketPath, "the agent's own socket")
	return cmd
}
