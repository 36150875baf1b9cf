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
		Short: "look for hosts of the cluster at one more peer, from now on",
		Long: `Makes this host look for others at HOST, too. HOST may be anything that WEFT_JOIN
takes: 192.0.2.7, web-1:7950, dns+NAME, dnssrv+NAME, mesos+http://MASTER:5050,
marathon+http://HOST:8080/APP or exec:COMMAND. The peer is kept when the agent restarts.

A host that is a member of a cluster stays in that cluster.`,
	})
}

func forgetCommand() *cobra.Command {
	return peerCommand(api.Client.Forget, &cobra.Command{
		Use:   "forget HOST",
		Short: "stop looking for hosts of the cluster at a peer",
		Long: `Undoes weft connect HOST, or makes this host skip an entry of WEFT_JOIN, also after the
agent restarts. weft status lists the peers.

A host that was found stays a member of the cluster, and this host tries the address
where it was found. To remove it, use weft host rm. When hosts found a cluster together
(WEFT_EXPECT), all entries of WEFT_JOIN count, forgotten or not.`,
	})
}

// changed is what the agent answers to a change of its peers.
type changed struct {
	sentence string
	peers    []api.Peer // with --json
}

// peerCommand adds to a command what connect and forget have in common.
func peerCommand(change func(agent api.Client, ctx context.Context, p api.PeerChange) (string, error), cmd *cobra.Command) *cobra.Command {
	asJSON := cmd.Flags().Bool("json", false, "print all peers as JSON")
	cmd.Args = one("peer, as in WEFT_JOIN,", "weft status lists the peers")
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
