package cli

import (
	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/cleanup"
)

func cleanupCommand() *cobra.Command {
	c := cleanup.Cleanup{Socket: api.SocketPath, Docker: "/var/run/docker.sock"}
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "remove everything of Weft from this host's kernel and disk",
		Long: `Removes the overlay namespace with all bridges and VXLAN devices, every interface
of Weft, the agent's sockets, services of this host that are left in Consul, and the
state directory with this host's identity, allocations and its part of the ledger. It refuses while the agent runs, while Docker
still has networks of Weft, and if a newer release wrote the directory.

The cluster still counts the host as a member: run weft host leave before, or weft host
rm on another host afterwards.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.Run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&c.DryRun, "dry-run", false, dryRunUsage)
	cmd.Flags().StringVar(&c.State, "state", "/var/lib/weft", "remove this state `directory`")
	return cmd
}
