package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/status"
)

func ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ledger", Short: "look into the record of decisions, and repair it"}
	cmd.AddCommand(ledgerRecoverCommand())
	return cmd
}

func ledgerRecoverCommand() *cobra.Command {
	var socket string
	var r status.Recovery
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			text, err := status.RecoverLedger(ctx, socket, r)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), text)
			}
			return err
		},
	}
	cmd.Flags().StringArrayVar(&r.Off, "is-off", nil, "a lost keeper, by name or id: its machine is off for good (repeat for each)")
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, "say what would happen")
	cmd.Flags().StringVar(&socket, "socket", status.SocketPath, "the agent's own socket")
	return cmd
}
