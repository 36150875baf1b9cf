// Package cli is the command line of weft: one file for each command.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
)

// Run carries out the command line of this process. When it returns an error, it has
// printed it.
func Run(ctx context.Context, version string) error {
	err := root(version).ExecuteContext(ctx)
	if _, logged := errors.AsType[*loggedError](err); err != nil && !logged {
		fmt.Fprintln(os.Stderr, "weft:", api.Printable(err.Error()))
	}
	return err
}

func root(version string) *cobra.Command {
	cmd := &cobra.Command{
		Use:           "weft",
		Short:         "one network for the containers of many hosts",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(agentCommand(version), statusCommand(), connectCommand(), forgetCommand(), hostCommand(), rangeCommand(), networkCommand(), dnsCommand(), ledgerCommand(), cleanupCommand(), mesosCommand())
	return cmd
}

// group is a command that only has subcommands. By default cobra shows its help and
// succeeds even if the subcommand does not exist, which a script would take for success.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// one accepts exactly one argument. Its error says what the argument is and how to find
// it.
func one(what, find string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one %s and was given %d; %s", cmd.CommandPath(), what, len(args), find)
		}
		return nil
	}
}

// soon bounds the time in which the agent answers most requests.
const soon = 10 * time.Second

// ask makes cmd send a request to the agent of this host and print the answer.
func ask[A any](cmd *cobra.Command, limit time.Duration, send func(ctx context.Context, agent api.Client, args []string) (A, error), show func(io.Writer, A) error) *cobra.Command {
	socket := cmd.Flags().String("socket", api.SocketPath, "`path` of the agent's control socket")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), limit)
		defer cancel()
		answer, err := send(ctx, api.At(*socket), args)
		if err != nil {
			return err
		}
		return show(cmd.OutOrStdout(), answer)
	}
	return cmd
}

// order makes cmd send an order to the agent of this host and print the sentence that it
// answers.
func order(cmd *cobra.Command, limit time.Duration, send func(ctx context.Context, agent api.Client, args []string) (string, error)) *cobra.Command {
	return ask(cmd, limit, send, writeSentence)
}

// query makes cmd ask the agent of this host for data, which it prints for people, or as
// JSON.
func query[A any](cmd *cobra.Command, send func(ctx context.Context, agent api.Client, args []string) (A, error), people func(io.Writer, A) error) *cobra.Command {
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	return ask(cmd, soon, send, func(w io.Writer, answer A) error {
		if *asJSON {
			return writeJSON(w, answer)
		}
		return people(w, answer)
	})
}

func writeSentence(w io.Writer, sentence string) error {
	_, err := fmt.Fprintln(w, api.Printable(sentence))
	return err
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

const dryRunUsage = "print what would happen and change nothing"
