package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/turn"
)

func statusCommand() *cobra.Command {
	cmd := query(&cobra.Command{
		Use:   "status",
		Short: "show hosts, keepers, networks, blocks and endpoints as this host knows them",
		Long: `Shows hosts, keepers, networks, blocks and endpoints as this host knows them.

With --wait ready it first waits until this host is ready: containers that start on it
get an address and reach others. That is when the host is a member of a cluster, its
lease has not run out, nobody says that it was removed or is a clone, it can write its
disk, has an underlay address, has brought its kernel up to date, and docker_gwbridge
is not in the way of a network. The agent need not run yet. The command prints what it
waits for to the standard error, a line for each change. If the host is not ready in
time, the command fails with the reason.`,
		Example: `  weft status --json
  weft status --wait ready --timeout 2m && docker compose up -d`,
		Args: cobra.NoArgs,
	}, func(ctx context.Context, agent api.Client, _ []string) (*api.Report, error) {
		return agent.Report(ctx)
	}, api.Text)
	wait := cmd.Flags().String("wait", "", "first wait until this host is in this `state`: ready")
	timeout := cmd.Flags().Duration("timeout", time.Minute, "fail if the host is not in the state of --wait within this time")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case *wait == "ready" && *timeout > 0:
			return waitReady(cmd.Context(), cmd.Flag("socket").Value.String(), *timeout, cmd.ErrOrStderr())
		case *wait == "ready":
			return fmt.Errorf("--timeout %v: want a time above 0, such as 60s", *timeout)
		case *wait != "":
			return fmt.Errorf("--wait %q: want ready", *wait)
		}
		return nil
	}
	return cmd
}

// Pace of waiting.
const (
	askPause = 250 * time.Millisecond
	askLimit = 5 * time.Second // of one question: an agent that hangs may be replaced
)

// waitReady waits until the agent at a socket says that its host is ready; the agent need
// not run yet. It writes what it waits for, a line for each change.
func waitReady(ctx context.Context, socket string, timeout time.Duration, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for told := ""; ; {
		why, err := askReady(ctx, socket)
		switch {
		case err == nil && why == "":
			return nil
		case errors.Is(err, fs.ErrPermission):
			return err
		case err != nil:
			why = err.Error()
		}
		if told == "" || why != told && ctx.Err() == nil { // else the time-out is what went wrong
			told = why
			fmt.Fprintln(out, "waiting:", api.Printable(told))
		}
		if !turn.Sleep(ctx, askPause) {
			return fmt.Errorf("this host was not ready within %v: %s", timeout, told)
		}
	}
}

func askReady(ctx context.Context, socket string) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return api.At(socket).NotReady(ctx)
}
