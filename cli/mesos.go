package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/mesos"
	"github.com/weftnet/weft/overlays"
)

func mesosCommand() *cobra.Command {
	return group("mesos", "help on hosts whose containers Mesos starts", dockerShimCommand(), everywhereCommand(), importCommand())
}

func dockerShimCommand() *cobra.Command {
	var shim mesos.Shim
	var docker string
	cmd := &cobra.Command{
		Use:   "docker-shim -- ARGUMENT...",
		Short: "be the docker command of a Mesos agent: an app's network replaces Mesos' own",
		Long: `Runs Docker's command with these arguments, in its own place. Only docker run, as Mesos
writes it, is changed: when an app names a network in its parameters, Mesos' own --net is
left out. Mesos up to 1.11 passes both, which Docker's command refuses from 19.03 on.

mesos-agent takes one path in --docker. Give it a script with these two lines:

  #!/bin/sh
  exec /usr/local/bin/weft mesos docker-shim -- "$@"`,
		Example: `  weft mesos docker-shim --default-network overlay -- run --net bridge nginx`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := shim.Validate(); err != nil {
				return err
			}
			return become(cmd.Context(), docker, shim.Mend(args))
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&docker, "docker", "/usr/bin/docker", "`path` of Docker's command")
	cmd.Flags().StringVar(&shim.DefaultNetwork, "default-network", "", "the `network` of containers that Mesos starts in the mode BRIDGE, in place of Docker's bridge")
	return cmd
}

func importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "print the settings of Weft that stand for DC/OS' overlay modules",
		Long: `Reads a file of Mesos' flag --modules and the configurations of overlay modules that it
names, and prints the settings of Weft that do the same, with remarks behind #.`,
		Example: `  weft mesos import /etc/mesos-slave/agent_modules.json
  weft mesos import /etc/mesos-master/master_modules.json`,
		Args: one("file", "it is the one that --modules of mesos-agent or mesos-master names"),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := overlays.ReadFile(args[0])
			if err != nil {
				return err
			}
			lines, err := overlays.Import(raw, overlays.ReadFile)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			for _, line := range lines {
				fmt.Fprintln(cmd.OutOrStdout(), api.Printable(line))
			}
			return nil
		},
	}
}

// shimVariable holds the process id of a shim, which its docker command takes over.
const shimVariable = "WEFT_DOCKER_SHIM"

// become makes this process the docker command: signals, streams and the exit code are its from then on.
func become(ctx context.Context, docker string, args []string) error {
	self := strconv.Itoa(os.Getpid())
	if os.Getenv(shimVariable) == self {
		return fmt.Errorf("--docker %s is this shim again; set it to Docker's own command", docker)
	}
	signal.Reset() // what main asked for
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := os.Setenv(shimVariable, self); err != nil {
		return err
	}
	err := syscall.Exec(docker, append([]string{docker}, args...), os.Environ())
	return fmt.Errorf("cannot run %s: %w; set --docker to the path of Docker's command", docker, err)
}
