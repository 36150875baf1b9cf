package ledger

import "github.com/weftnet/weft/ledger/state"

// AddRange and what follows are what a client of the ledger says and hears, of package state.
type (
	Admit         = state.Admit
	AddRange      = state.AddRange
	Birth         = state.Birth
	Cede          = state.Cede
	Claim         = state.Claim
	Command       = state.Command
	EnsureNetwork = state.EnsureNetwork
	EnsureSubnet  = state.EnsureSubnet
	Event         = state.Event
	Found         = state.Found
	GrantBlock    = state.GrantBlock
	Holding       = state.Holding
	Kind          = state.Kind
	LeaveNetwork  = state.LeaveNetwork
	NameNetwork   = state.NameNetwork
	Past          = state.Past
	Query         = state.Query
	Remove        = state.Remove
	Reply         = state.Reply
	Reserve       = state.Reserve
	RetireNetwork = state.RetireNetwork
	ReturnBlock   = state.ReturnBlock
	Show          = state.Show
	State         = state.State
	Unclaim       = state.Unclaim
	UseSubnets    = state.UseSubnets
)

// Kinds of commands, and bounds, of package state.
const (
	KindAddRange      = state.KindAddRange
	KindAdmit         = state.KindAdmit
	KindCede          = state.KindCede
	KindClaim         = state.KindClaim
	KindEnsureNetwork = state.KindEnsureNetwork
	KindEnsureSubnet  = state.KindEnsureSubnet
	KindFound         = state.KindFound
	KindGrantBlock    = state.KindGrantBlock
	KindLeave         = state.KindLeave
	KindLeaveNetwork  = state.KindLeaveNetwork
	KindNameNetwork   = state.KindNameNetwork
	KindRemove        = state.KindRemove
	KindRenew         = state.KindRenew
	KindReserve       = state.KindReserve
	KindRetireNetwork = state.KindRetireNetwork
	KindReturnBlock   = state.KindReturnBlock
	KindShow          = state.KindShow
	KindUnclaim       = state.KindUnclaim
	KindUseSubnets    = state.KindUseSubnets
	MaxEvents         = state.MaxEvents
)

// Functions of package state.
var (
	CheckDocker   = state.CheckDocker
	CheckName     = state.CheckName
	DecodeCommand = state.DecodeCommand
	EncodeCommand = state.EncodeCommand
	NewState      = state.NewState
)
