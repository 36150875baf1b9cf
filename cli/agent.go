package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weftnet/weft/machine"
	"github.com/weftnet/weft/plugin"
	"github.com/weftnet/weft/settings"
)

func agentCommand(version string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "run the agent of this host; Docker does so for the managed plugin",
		Args:  cobra.NoArgs,
	}
	for _, s := range settings.Table() {
		addFlag(cmd.Flags(), s)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		flags := map[string]string{}
		cmd.Flags().Visit(func(f *pflag.Flag) { flags[f.Name] = f.Value.String() })
		s, err := loadSettings(version, flags)
		log := newLog(cmd.ErrOrStderr(), s)
		if err == nil {
			err = runAgent(cmd.Context(), version, s, log)
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

// addFlag adds the flag of a setting.
func addFlag(flags *pflag.FlagSet, s settings.Setting) {
	f := flags.VarPF(&flagValue{text: s.Default, kind: s.Type}, s.Flag(), "", s.Usage())
	f.Hidden = s.Hidden
	if s.Type == "bool" {
		f.NoOptDefVal = "true" // --replicate alone
	}
}

// flagValue is the text of a setting. The package settings reads it, together with those
// from the environment, so that one error names everything that is wrong.
type flagValue struct{ text, kind string }

// String implements pflag.Value.
func (v *flagValue) String() string { return v.text }

// Set implements pflag.Value.
func (v *flagValue) Set(text string) error {
	v.text = text
	return nil
}

// Type implements pflag.Value; --help shows it.
func (v *flagValue) Type() string { return v.kind }

// loadSettings fails with a *plugin.StartError.
func loadSettings(version string, flags map[string]string) (settings.Settings, error) {
	s, err := settings.Load(settings.Source{Environ: os.Environ(), Flags: flags, Version: version})
	if err != nil {
		return s, &plugin.StartError{Err: err}
	}
	if s.Name == "" {
		if s.Name, err = os.Hostname(); err != nil {
			return s, &plugin.StartError{Err: fmt.Errorf("WEFT_NAME is empty and the hostname cannot be read; set WEFT_NAME: %w", err)}
		}
	}
	return s, nil
}

// loggedError is an error that is in the log already.
type loggedError struct{ error }

// Unwrap gives the cause.
func (e *loggedError) Unwrap() error { return e.error }

// enablePatience is longer than the 9.5 s for which Docker looks for the socket of a
// plugin that it enables.
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

func runAgent(ctx context.Context, version string, s settings.Settings, log *slog.Logger) error {
	limitMemory(ctx)
	cfg, err := machine.Config(s, version, log)
	if err != nil {
		return &plugin.StartError{Err: err}
	}
	return plugin.Run(ctx, cfg, plugin.SocketPath)
}
