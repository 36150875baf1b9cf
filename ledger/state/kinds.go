package state

import "github.com/weftnet/weft/netmap"

// rule is what is known of a kind of command.
type rule struct {
	since int                           // the feature level that it came with
	has   func(c Command) bool          // reports whether a command has its arguments; nil: it needs none
	do    func(t *step) *netmap.Refusal // carries it out
}

// kinds are all kinds of command that this release knows.
var kinds = map[Kind]rule{
	KindRenew: {since: 1, do: (*step).renew},
	KindLeave: {since: 1, do: (*step).leave},

	KindFound:           with(1, func(c Command) *Found { return c.Found }, (*step).found),
	KindAdmit:           with(1, func(c Command) *Admit { return c.Admit }, (*step).admit),
	KindRemove:          with(1, func(c Command) *Remove { return c.Remove }, (*step).remove),
	KindAddRange:        with(1, func(c Command) *AddRange { return c.AddRange }, (*step).addRange),
	KindEnsureSubnet:    with(1, func(c Command) *EnsureSubnet { return c.EnsureSubnet }, (*step).ensureSubnet),
	KindUseSubnets:      with(1, func(c Command) *UseSubnets { return c.UseSubnets }, (*step).useSubnets),
	KindReserve:         with(1, func(c Command) *Reserve { return c.Reserve }, (*step).reserve),
	KindGrantBlock:      with(1, func(c Command) *GrantBlock { return c.GrantBlock }, (*step).grantBlock),
	KindReturnBlock:     with(1, func(c Command) *ReturnBlock { return c.ReturnBlock }, (*step).returnBlock),
	KindClaim:           with(1, func(c Command) *Claim { return c.Claim }, (*step).claim),
	KindCede:            with(1, func(c Command) *Cede { return c.Cede }, (*step).cede),
	KindUnclaim:         with(1, func(c Command) *Unclaim { return c.Unclaim }, (*step).unclaim),
	KindEnsureNetwork:   with(1, func(c Command) *EnsureNetwork { return c.EnsureNetwork }, (*step).ensureNetwork),
	KindNameNetwork:     with(1, func(c Command) *NameNetwork { return c.NameNetwork }, (*step).nameNetwork),
	KindRetireNetwork:   with(1, func(c Command) *RetireNetwork { return c.RetireNetwork }, (*step).retireNetwork),
	KindLeaveNetwork:    with(1, func(c Command) *LeaveNetwork { return c.LeaveNetwork }, (*step).leaveNetwork),
	KindAddName:         with(1, func(c Command) *AddName { return c.AddName }, (*step).addName),
	KindRemoveName:      with(1, func(c Command) *RemoveName { return c.RemoveName }, (*step).removeName),
	KindDeclareHoldings: with(1, func(c Command) *DeclareHoldings { return c.DeclareHoldings }, (*step).declareHoldings),
}

// with is the rule of a kind that has arguments.
func with[A any](since int, arguments func(Command) *A, do func(*step, *A) *netmap.Refusal) rule {
	return rule{
		since: since,
		has:   func(c Command) bool { return arguments(c) != nil },
		do:    func(t *step) *netmap.Refusal { return do(t, arguments(t.cmd)) },
	}
}
