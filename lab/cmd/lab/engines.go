package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/lab/document"
	"github.com/weftnet/weft/lab/engines"
)

func enginesCommand() *cobra.Command {
	var file, commit string
	cmd := &cobra.Command{
		Use:   "engines ENGINE=FILE...",
		Short: "Make a table of the tests that passed on each engine, of the output of go test -v in files",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var runs []engines.Run
			for _, arg := range args {
				engine, file, named := strings.Cut(arg, "=")
				if !named {
					return fmt.Errorf("lab: %q: want ENGINE=FILE", arg)
				}
				r, err := read(engine, file)
				if err != nil {
					return err
				}
				runs = append(runs, r)
			}
			table := engines.Table(commit, runs)
			if file == "" {
				_, err := fmt.Fprint(cmd.OutOrStdout(), table)
				return err
			}
			d, err := document.Open(file, "make test-engines")
			if err != nil {
				return err
			}
			return d.Enter(table)
		},
	}
	cmd.Flags().StringVar(&commit, "commit", "unknown", "of which commit they are")
	cmd.Flags().StringVar(&file, "document", "", "a file, such as docs/engines.md, to put the table into instead of the last one")
	return cmd
}

func read(engine, file string) (engines.Run, error) {
	f, err := os.Open(file)
	if err != nil {
		return engines.Run{}, err
	}
	defer f.Close()
	return engines.Read(engine, f)
}
