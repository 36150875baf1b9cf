package main

import (
	"github.com/spf13/cobra"

	"github.com/weftnet/weft/lab"
)

func cutCommand(open opener) *cobra.Command {
	var oneWay bool
	cmd := &cobra.Command{
		Use:   "cut HOST [HOST]",
		Short: "Cut a host off from all, or the link between two",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			c, err := cutOf(l, args, oneWay)
			if err != nil {
				return err
			}
			return l.Cut(cmd.Context(), c)
		},
	}
	cmd.Flags().BoolVar(&oneWay, "one-way", false, "only what the first host sends to the second")
	return cmd
}

func healCommand(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "heal [HOST [HOST]]",
		Short: "End all cuts, or those of a host, or those between two",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return l.Heal(cmd.Context())
			}
			c, err := cutOf(l, args, false)
			if err != nil {
				return err
			}
			return l.Heal(cmd.Context(), c)
		},
	}
}

func cutOf(l *lab.Lab, args []string, oneWay bool) (lab.Cut, error) {
	a, err := hostNumber(l, args[0])
	if err != nil {
		return lab.Cut{}, err
	}
	if len(args) == 1 {
		return lab.Off(a), nil
	}
	b, err := hostNumber(l, args[1])
	if err != nil {
		return lab.Cut{}, err
	}
	if oneWay {
		return lab.OneWay(a, b), nil
	}
	return lab.Between(a, b), nil
}

func swarmCommand(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "swarm",
		Short: "Join all hosts into one Docker swarm, to compare with",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			return l.JoinSwarm(cmd.Context())
		},
	}
}
