// Command lab brings up several hosts on this machine, each with its own Docker Engine,
// runs commands on them, cuts and heals their network, and takes them down again.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := root().ExecuteContext(ctx)
	if err == nil {
		return
	}
	if inside, ok := errors.AsType[*insideError](err); ok {
		os.Exit(inside.ExitCode()) //nolint:gocritic // stop only gives signals back
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func root() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:           "lab",
		Short:         "Several Docker hosts on one machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.PersistentFlags().StringVar(&dir, "state", lab.DefaultDir, "state directory; labs with different ones run side by side")
	open := func() (*lab.Lab, error) { return lab.Open(lab.Config{Dir: dir}) }
	cmd.AddCommand(upCommand(&dir), downCommand(&dir), statusCommand(open))
	cmd.AddCommand(demoCommand(&dir), benchCommand(&dir), enginesCommand())
	cmd.AddCommand(execCommand(open), dockerCommand(open), shellCommand(open))
	cmd.AddCommand(cutCommand(open), healCommand(open))
	cmd.AddCommand(hostCommands(open)...)
	cmd.AddCommand(pluginCommand(open), registryCommand(open), swarmCommand(open))
	return cmd
}

// opener opens the lab of the state directory given on the command line.
type opener func() (*lab.Lab, error)

func upCommand(dir *string) *cobra.Command {
	c := lab.Config{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring the hosts up, or what has ended of them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Dir = *dir
			c.Log = func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) }
			_, err := lab.Up(cmd.Context(), c)
			return err
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&c.Hosts, "hosts", 3, "how many hosts")
	flags.IntVar(&c.MTU, "mtu", 0, "MTU of the network between the hosts, in bytes (default 1500, or as it is)")
	flags.StringVar(&c.Probe, "probe", "", "a static probe program for the images (default: built with go)")
	flags.StringArrayVar(&c.DockerArgs, "docker-arg", nil, "a further argument for every dockerd")
	flags.StringVar(&c.Engine.Dockerd, "dockerd", "", "path of another dockerd")
	flags.StringVar(&c.Engine.Containerd, "containerd", "", "path of another containerd")
	flags.StringVar(&c.Engine.CLI, "docker-cli", "", "path of another docker command")
	flags.StringVar(&c.Engine.Path, "engine-path", "", "directories to search for the engine's other programs first")
	return cmd
}

func downCommand(dir *string) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Take everything down and remove it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.Down(cmd.Context(), lab.Config{Dir: *dir}, keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep-logs", false, "leave the hosts' logs in the state directory")
	return cmd
}

func statusCommand(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what runs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			return l.WriteStatus(cmd.Context(), cmd.OutOrStdout())
		},
	}
}
