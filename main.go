// Weft is one network for the containers of many hosts: a Docker network and
// IPAM plugin. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/settings"
	"github.com/weftnet/weft/status"
)

// version is set by the linker; see scripts/version.sh.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		if _, known := errors.AsType[*loggedError](err); !known {
			fmt.Fprintln(os.Stderr, "weft:", status.Printable(err.Error()))
		}
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "weft",
		Short:         "one network for the containers of many hosts",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(agentCommand(), statusCommand(), connectCommand(), forgetCommand(), hostCommand(), rangeCommand(), networkCommand(), ledgerCommand(), cleanupCommand())
	return cmd
}

func agentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "run the agent of this host; in the managed plugin Docker does",
		Args:  cobra.NoArgs,
	}
	for _, s := range settings.Table() {
		cmd.Flags().String(s.Flag(), s.Default, s.Usage())
		if s.Hidden {
			_ = cmd.Flags().MarkHidden(s.Flag()) // the flag exists
		}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		flags := map[string]string{}
		cmd.Flags().Visit(func(f *pflag.Flag) { flags[f.Name] = f.Value.String() })
		s, err := loadSettings(flags)
		log := newLog(cmd.ErrOrStderr(), s)
		if err == nil {
			err = runAgent(cmd.Context(), s, log)
		}
		if err == nil {
			return nil
		}
		log.Error("the agent ends", "err", err)
		awaitDocker(cmd.Context(), err)
		return &loggedError{err}
	}
	return cmd
}

// loadSettings fails with a *plugin.StartError.
func loadSettings(flags map[string]string) (settings.Settings, error) {
	s, err := settings.Load(settings.Source{Environ: os.Environ(), Flags: flags, Version: version})
	if err != nil {
		return s, &plugin.StartError{Err: err}
	}
	if s.Name == "" {
		if s.Name, err = os.Hostname(); err != nil {
			return s, &plugin.StartError{Err: fmt.Errorf("WEFT_NAME is empty and the hostname is not known: %w", err)}
		}
	}
	return s, nil
}

// loggedError is one that the log has already.
type loggedError struct{ error }

// Unwrap gives the cause.
func (e *loggedError) Unwrap() error { return e.error }

// enablePatience is longer than Docker looks for the socket of a plugin that it
// enables (9.5 s).
const enablePatience = 30 * time.Second

// awaitDocker keeps a managed plugin that could not start until Docker ends it.
// Docker starts a plugin again that exits, also while it gives up on it, and a later
// enable then fails with "id already in use".
func awaitDocker(ctx context.Context, err error) {
	if _, failed := errors.AsType[*plugin.StartError](err); !failed || os.Getenv("WEFT_ROOT") == "" {
		return
	}
	limit, cancel := context.WithTimeout(ctx, enablePatience)
	defer cancel()
	<-limit.Done()
}

// memoryLimit is where the garbage collector begins to work harder, in bytes: several
// times what an agent of a large cluster uses. An agent that needs more gets more.
const memoryLimit = 512 << 20

// limitMemory sets memoryLimit unless the environment sets another one.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

func runAgent(ctx context.Context, s settings.Settings, log *slog.Logger) error {
	limitMemory()
	cfg, err := plugin.OnThisHost(s, version, log)
	if err != nil {
		return &plugin.StartError{Err: err}
	}
	return plugin.Run(ctx, cfg, plugin.SocketPath)
}

func statusCommand() *cobra.Command {
	var asJSON bool
	var socket string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show hosts, keepers, networks, blocks and endpoints as this host knows them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			r, err := status.Fetch(ctx, socket)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd, r)
			}
			return status.Text(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "for programs")
	cmd.Flags().StringVar(&socket, "socket", status.SocketPath, "the agent's own socket")
	return cmd
}

// writeJSON answers a program.
func writeJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// one asks for exactly one word, and says what it is and how to find it.
func one(what, find string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s wants one %s, and was given %d; %s", cmd.CommandPath(), what, len(args), find)
		}
		return nil
	}
}

// group is a command that only has others. By itself cobra shows its help and succeeds
// also when the other one does not exist: a script would take that for done.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

func hostCommand() *cobra.Command {
	cmd := group("host", "manage the hosts of the cluster")
	cmd.AddCommand(hostRemoveCommand(), hostLeaveCommand(), hostNewIdentityCommand())
	return cmd
}

func hostNewIdentityCommand() *cobra.Command {
	var socket string
	var r status.Renunciation
	cmd := &cobra.Command{
		Use:   "new-identity",
		Short: "make this host a new one: it is a clone, or its disk is an old copy",
		Long: `Makes the host on which it is run a new one, with its disk and its running
containers. That is for a machine that was cloned, or whose disk was restored from an
older copy: two machines cannot be one host, and the one that hands out nothing says
so in weft status. A host that was removed from the cluster does this by itself.

The new host joins its networks anew and asks for the addresses of its containers one
by one. Where another host has one, that container is taken off the network, and weft
status names it and who has its address.

If no other machine runs as the old host any more, remove that one afterwards with
weft host rm ID --is-off: until then its addresses stay its own.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			text, err := status.NewIdentity(ctx, socket, r)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), status.Printable(text))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&r.Force, "force", false, "although nothing is wrong with the identity")
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, "say what would happen")
	cmd.Flags().StringVar(&socket, "socket", status.SocketPath, "the agent's own socket")
	return cmd
}

func hostRemoveCommand() *cobra.Command {
	var socket string
	var r status.Removal
	cmd := &cobra.Command{
		Use:   "rm HOST",
		Short: "remove a dead host for good; its blocks of addresses become free",
		Long: `Removes a host, given by its name or id, from the cluster for good. Without
--is-off this is refused until the host's lease of 24 hours has run out, because
until then it may hand out addresses that nobody else may have.

--is-off is your word that the machine is off. If it comes back it learns of its
removal as soon as it reaches any other host; do not start it where it cannot. It then
becomes a new host by itself and asks for the addresses of its running containers.`,
		Args: one("host (its name or id)", "weft status lists the hosts"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			r.Host = args[0]
			text, err := status.RemoveHost(ctx, socket, r)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), status.Printable(text))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&r.IsOff, "is-off", false, "the machine is off: do not wait until its lease has run out")
	cmd.Flags().StringVar(&socket, "socket", status.SocketPath, "the agent's own socket")
	return cmd
}

func rangeCommand() *cobra.Command {
	var socket string
	add := &cobra.Command{
		Use:   "add PREFIX",
		Short: "add address space for networks without --subnet, such as 10.48.0.0/12 or fd00:5::/48",
		Args:  one("prefix", "weft range ls lists those that are there"),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix, err := netip.ParsePrefix(args[0])
			if err != nil {
				return fmt.Errorf("%q is no prefix, want one such as 10.48.0.0/12", args[0])
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			text, err := status.AddRange(ctx, socket, status.Range{Prefix: prefix})
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), status.Printable(text))
			}
			return err
		},
	}
	cmd := group("range", "manage the ranges that networks without --subnet come from")
	cmd.PersistentFlags().StringVar(&socket, "socket", status.SocketPath, "the agent's own socket")
	cmd.AddCommand(add, rangeListCommand(&socket))
	return cmd
}

func rangeListCommand(socket *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "list the ranges in the order in which they are used",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			r, err := status.Fetch(ctx, *socket)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd, r.Ranges)
			}
			return status.Ranges(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "for programs")
	return cmd
}

func cleanupCommand() *cobra.Command {
	c := plugin.Cleanup{Socket: status.SocketPath, Docker: "/var/run/docker.sock"}
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "remove everything of Weft from this host's kernel and disk",
		Long: `Removes the overlay namespace with all bridges and VXLAN devices, every interface
of Weft, the agent's sockets, and the state directory with this host's identity,
allocations and its part of the ledger. It refuses while the agent runs, while
Docker still has networks of Weft's, and if a newer release wrote the directory. A cluster that loses a host this way still counts it; the
other hosts keep working.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.Run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&c.DryRun, "dry-run", false, "say what would be removed")
	cmd.Flags().StringVar(&c.State, "state", "/var/lib/weft", "the state directory")
	return cmd
}
