package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/lab"
)

// hostOf opens the lab and finds the host that an argument names, "2" or "host2".
func hostOf(open opener, arg string) (*lab.Host, error) {
	l, err := open()
	if err != nil {
		return nil, err
	}
	n, err := hostNumber(l, arg)
	if err != nil {
		return nil, err
	}
	return l.Host(n), nil
}

func hostNumber(l *lab.Lab, arg string) (int, error) {
	hosts := l.Hosts()
	i := slices.IndexFunc(hosts, func(h *lab.Host) bool { return arg == h.Name() || arg == strconv.Itoa(h.Number()) })
	if i < 0 {
		return 0, fmt.Errorf("lab: no host %q; there are hosts 1 to %d", arg, len(hosts))
	}
	return hosts[i].Number(), nil
}

// insideError is a command that ran inside a host with this terminal, and failed:
// it has said why itself.
type insideError struct{ *exec.ExitError }

// Unwrap gives the command's own error.
func (e *insideError) Unwrap() error { return e.ExitError }

// attach runs a command in a host with this terminal and this working directory. An
// interrupt from the keyboard reaches the command by itself, and only it says what that
// means: a shell goes on.
func attach(ctx context.Context, h *lab.Host, c lab.Command) error {
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM)
	defer stop()
	c.Dir, _ = os.Getwd()
	c.Stdin, c.Stdout, c.Stderr, c.Terminal = os.Stdin, os.Stdout, os.Stderr, true
	err := h.Run(ctx, c)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return &insideError{exit}
	}
	return err
}

func execCommand(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "exec HOST -- PROGRAM [ARGUMENT…]",
		Short: "Run a program inside a host",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := hostOf(open, args[0])
			if err != nil {
				return err
			}
			return attach(cmd.Context(), h, lab.Command{Args: args[1:]})
		},
	}
}

func dockerCommand(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "docker HOST -- ARGUMENT…",
		Short: "Run the docker command on a host",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := hostOf(open, args[0])
			if err != nil {
				return err
			}
			return attach(cmd.Context(), h, h.DockerCommand(args[1:]...))
		},
	}
}

func shellCommand(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "shell HOST",
		Short: "A shell inside a host",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := hostOf(open, args[0])
			if err != nil {
				return err
			}
			prompt := "PS1=" + h.Name() + " # "
			return attach(cmd.Context(), h, lab.Command{Args: []string{"bash", "--norc"}, Env: []string{prompt}})
		},
	}
}

// onHost is a command whose only argument is a host.
func onHost(open opener, use, short string, do func(context.Context, *lab.Host) error) *cobra.Command {
	return &cobra.Command{
		Use:   use + " HOST",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := hostOf(open, args[0])
			if err != nil {
				return err
			}
			return do(cmd.Context(), h)
		},
	}
}

func hostCommands(open opener) []*cobra.Command {
	return []*cobra.Command{
		onHost(open, "kill-agent", "Kill the plugin's process and wait until Docker has started another",
			func(ctx context.Context, h *lab.Host) error { return h.KillAgent(ctx) }),
		onHost(open, "kill-docker", "Kill dockerd with SIGKILL; restart-docker starts it again",
			func(ctx context.Context, h *lab.Host) error { return h.KillDocker(ctx) }),
		onHost(open, "power-off", "Kill everything in a host at once; its disk stays",
			func(ctx context.Context, h *lab.Host) error { return h.PowerOff(ctx) }),
		onHost(open, "power-on", "Start a host that is off",
			func(ctx context.Context, h *lab.Host) error { return h.PowerOn(ctx) }),
		restartCommand(open),
	}
}

func restartCommand(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "restart-docker HOST [-- ARGUMENT…]",
		Short: "Restart dockerd, with further arguments such as --live-restore",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := hostOf(open, args[0])
			if err != nil {
				return err
			}
			return h.RestartDocker(cmd.Context(), args[1:]...)
		},
	}
}

func pluginCommand(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "plugin HOST DIR [KEY=VALUE…]",
		Short: "Create the plugin from a directory, set it and enable it",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := hostOf(open, args[0])
			if err != nil {
				return err
			}
			return h.InstallPlugin(cmd.Context(), args[1], args[2:]...)
		},
	}
}

func registryCommand(open opener) *cobra.Command {
	return onHost(open, "registry", "Start a Docker registry on a host's loopback and print its address",
		func(ctx context.Context, h *lab.Host) error {
			addr, err := h.StartRegistry(ctx)
			if err == nil {
				fmt.Println(addr)
			}
			return err
		})
}
