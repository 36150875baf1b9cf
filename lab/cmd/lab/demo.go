package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/lab/demo"
)

func demoCommand(dir *string) *cobra.Command {
	var c demo.Config
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Hosts, the plugin on each, one network, a web container per host, and who reaches whom",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Lab.Dir = *dir
			c.Out = cmd.OutOrStdout()
			c.Log = func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) }
			return demo.Run(cmd.Context(), c)
		},
	}
	cmd.Flags().IntVar(&c.Lab.Hosts, "hosts", 3, "how many hosts")
	cmd.Flags().StringVar(&c.Plugin, "plugin", "build/plugin", "the plugin's directory, made by make plugin")
	return cmd
}
