package cli

import (
	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/plugin"
)

func cleanupCommand() *cobra.Command {
	c := plugin.Cleanup{Socket: api.SocketPath, Docker: "/var/run/docker.sock"}
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "remove everything of Weft from this host's kernel and disk",
		Long: `Removes the overlay namespace with all bridges and VXLAN devices, every interface
of Weft, the agent's sockets, and the state directory with this host's identity,
allocations and its part of the ledger. It refuses while the agent runs, while Docker
still has networks of Weft's, and if a newer release wrote the directory. A cluster
that loses a host this way still counts it; the other hosts keep working.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.Run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&c.DryRun, "dry-run", false, dryRunUsage)
	cmd.Flags().StringVar(&c.State, "state", "/var/lib/weft", "the state `directory`")
	return cmd
}
