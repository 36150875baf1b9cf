package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/status"
)

func connectCommand() *cobra.Command {
	return peerCommand(status.Connect, &cobra.Command{
		Use:   "connect HOST",
		Short: "look for hosts of the cluster at one more peer",
		Long: `Has this host look for others also at HOST, which may be anything that WEFT_JOIN
takes: 192.0.2.7, web-1:7950, dns+NAME, dnssrv+NAME, mesos+http://MASTER:5050,
marathon+http://HOST:8080/APP or exec:COMMAND. It is kept when the agent restarts.

It makes no host a member of another cluster: a host that has one stays in it.`,
	})
}

func forgetCommand() *cobra.Command {
	return peerCommand(status.Forget, &cobra.Command{
		Use:   "forget HOST",
		Short: "look for hosts of the cluster at a peer no more",
		Long: `Takes back weft connect HOST, or has this host not try an entry of WEFT_JOIN, also
when the agent restarts. weft status lists the peers.

A host that was met stays a member of the cluster, and is looked for where it was met.
To remove it, use weft host rm. When hosts found a cluster together (WEFT_EXPECT), the
entries of WEFT_JOIN count, forgotten or not.`,
	})
}

// peerCommand gives a command what both have.
func peerCommand(change func(ctx context.Context, path string, p status.PeerChange) (string, error), cmd *cobra.Command) *cobra.Command {
	var asJSON bool
	var socket string
	cmd.Args = one("peer, as in WEFT_JOIN", "weft status lists those that are there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
		defer cancel()
		text, err := change(ctx, socket, status.PeerChange{Peer: args[0]})
		if err != nil {
			return err
		}
		if !asJSON {
			fmt.Fprintln(cmd.OutOrStdout(), status.Printable(text))
			return nil
		}
		r, err := status.Fetch(ctx, socket)
		if err != nil {
			return err
		}
		return writeJSON(cmd, r.Peers)
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print all peers as JSON")
	cmd.Flags().StringVar(&socket, "socket", status.SocketPath, "the agent's own socket")
	return cmd
}
