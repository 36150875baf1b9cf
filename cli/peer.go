package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
)

func connectCommand() *cobra.Command {
	return peerCommand(api.Client.Connect, &cobra.Command{
		Use:   "connect HOST",
		Short: "look for hosts of the cluster at one more peer",
		Long: `Has this host look for others also at HOST, which may be anything that WEFT_JOIN
takes: 192.0.2.7, web-1:7950, dns+NAME, dnssrv+NAME, mesos+http://MASTER:5050,
marathon+http://HOST:8080/APP or exec:COMMAND. It is kept when the agent restarts.

It makes no host a member of another cluster: a host that has one stays in it.`,
	})
}

func forgetCommand() *cobra.Command {
	return peerCommand(api.Client.Forget, &cobra.Command{
		Use:   "forget HOST",
		Short: "look for hosts of the cluster at a peer no more",
		Long: `Takes back weft connect HOST, or has this host not try an entry of WEFT_JOIN, also
when the agent restarts. weft status lists the peers.

A host that was met stays a member of the cluster, and is looked for where it was met.
To remove it, use weft host rm. When hosts found a cluster together (WEFT_EXPECT), the
entries of WEFT_JOIN count, forgotten or not.`,
	})
}

// changed is what the agent answers to a change of its peers.
type changed struct {
	sentence string
	peers    []api.Peer // with --json
}

// peerCommand gives a command what both have.
func peerCommand(change func(agent api.Client, ctx context.Context, p api.PeerChange) (string, error), cmd *cobra.Command) *cobra.Command {
	asJSON := cmd.Flags().Bool("json", false, "print all peers as JSON")
	cmd.Args = one("peer, as in WEFT_JOIN", "weft status lists those that are there")
	return ask(cmd, soon, func(ctx context.Context, agent api.Client, args []string) (changed, error) {
		sentence, err := change(agent, ctx, api.PeerChange{Peer: args[0]})
		if err != nil || !*asJSON {
			return changed{sentence: sentence}, err
		}
		r, err := agent.Report(ctx)
		if err != nil {
			return changed{}, err
		}
		return changed{peers: r.Peers}, nil
	}, func(w io.Writer, c changed) error {
		if *asJSON {
			return writeJSON(w, c.peers)
		}
		return writeSentence(w, c.sentence)
	})
}
