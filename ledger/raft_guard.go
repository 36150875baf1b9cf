package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/weftnet/weft/ledger/raftlog"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// guard is raft's transport with checks of everything that comes from other hosts.
type guard struct {
	*raft.NetworkTransport
	l *Ledger
	k *keeper

	checked   chan raft.RPC
	snapshots chan struct{} // one is received at a time
	done      chan struct{}
	once      sync.Once
}

func newGuard(l *Ledger, k *keeper, inner *raft.NetworkTransport) *guard {
	g := &guard{NetworkTransport: inner, l: l, k: k, checked: make(chan raft.RPC), snapshots: make(chan struct{}, 1), done: make(chan struct{})}
	go g.check()
	return g
}

// Close implements raft.WithClose.
func (g *guard) Close() error {
	g.once.Do(func() { close(g.done) })
	return g.NetworkTransport.Close()
}

// Consumer implements raft.Transport.
func (g *guard) Consumer() <-chan raft.RPC { return g.checked }

// SetHeartbeatHandler implements raft.Transport.
func (g *guard) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		g.NetworkTransport.SetHeartbeatHandler(nil)
		return
	}
	g.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if g.refused(rpc) {
			return
		}
		handle(rpc)
	})
}

func (g *guard) check() {
	for {
		select {
		case rpc := <-g.NetworkTransport.Consumer():
			if g.refused(rpc) {
				continue
			}
			if r, is := rpc.Command.(*raft.InstallSnapshotRequest); is {
				go g.receive(rpc, r) // ends with the stream, which has a deadline
				continue
			}
			g.pass(rpc)
		case <-g.done:
			return
		}
	}
}

func (g *guard) pass(rpc raft.RPC) {
	select {
	case g.checked <- rpc:
	case <-g.done:
	}
}

// refused answers a message that raft must not see.
func (g *guard) refused(rpc raft.RPC) bool {
	err := g.verify(rpc.Command)
	if err == nil {
		return false
	}
	err = fmt.Errorf("ledger: a message of raft was refused: %w", err)
	g.k.layer.log.Warn("message", "ledger: a message of raft was refused", "err", err)
	rpc.Respond(nil, err)
	return true
}

// verify compares the sender of a message with the open streams, and its terms and indexes with
// this keeper's.
func (g *guard) verify(command any) error {
	message, ok := command.(raft.WithRPCHeader)
	r := g.k.running.Load()
	if !ok || r == nil {
		return errors.New("this keeper is starting")
	}
	header := message.GetRPCHeader()
	if err := g.sender(header); err != nil {
		return err
	}
	term := r.CurrentTerm()
	switch m := command.(type) {
	case *raft.AppendEntriesRequest:
		return errors.Join(checkTerm(m.Term, term), checkEntries(m))
	case *raft.RequestVoteRequest:
		return errors.Join(checkTerm(m.Term, term), g.k.mayVote())
	case *raft.RequestPreVoteRequest:
		return errors.Join(checkTerm(m.Term, term), g.k.mayVote())
	case *raft.InstallSnapshotRequest:
		return errors.Join(checkTerm(m.Term, term), checkSnapshot(m, r.LastIndex()))
	case *raft.TimeoutNowRequest: // the leader would have this one elected
		return g.k.mayVote()
	}
	return fmt.Errorf("%T: %w", command, state.ErrMalformed)
}

// sender checks who a message claims to be from: a host that has a stream open, at one of its
// addresses. Others are told that address if it leads.
func (g *guard) sender(header raft.RPCHeader) error {
	id, err := netmap.ParseID(string(header.ID))
	if err != nil {
		return err
	}
	of, at, err := parseServer(g.DecodePeer(header.Addr))
	if err != nil {
		return err
	}
	places := g.k.layer.streamsFrom(id)
	if len(places) == 0 || of != id {
		return fmt.Errorf("it is in the name of host %s, which has no stream: %w", id.Short(), errStranger)
	}
	for _, p := range g.k.places(id) {
		places = append(places, p.Addr())
	}
	if !slices.Contains(places, at.Addr().Unmap()) {
		return fmt.Errorf("host %s says that it is at %s: %w", id.Short(), at, errStranger)
	}
	return nil
}

// How long a snapshot may take.
const (
	snapshotWait = 10 * time.Second
	snapshotPace = 1 << 20 // bytes a second, besides
)

// receive reads a whole snapshot before raft waits for it.
func (g *guard) receive(rpc raft.RPC, r *raft.InstallSnapshotRequest) {
	select {
	case g.snapshots <- struct{}{}:
		defer func() { <-g.snapshots }()
	default:
		rpc.Respond(nil, errors.New("ledger: another snapshot is on its way"))
		return
	}
	id, _ := netmap.ParseID(string(r.ID)) // verify read it
	g.k.layer.limit(id, time.Now().Add(snapshotWait+time.Duration(r.Size/snapshotPace)*time.Second))
	body, err := io.ReadAll(io.LimitReader(rpc.Reader, r.Size))
	g.k.layer.limit(id, time.Time{})
	if err == nil && int64(len(body)) < r.Size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = checkState(body, g.k.cluster, g.k.generation, r.LastLogIndex)
	}
	if err != nil {
		g.k.layer.log.Warn("snapshot "+id.Short(), "ledger: a snapshot was refused", "host", id.Short(), "err", err)
		rpc.Respond(nil, fmt.Errorf("ledger: a snapshot was refused: %w", err))
		return
	}
	rpc.Reader = bytes.NewReader(body)
	g.pass(rpc)
}

// answered refuses an answer whose term no election leads to.
func (g *guard) answered(err error, term uint64, forget func()) error {
	if r := g.k.running.Load(); err == nil && r != nil {
		err = checkTerm(term, r.CurrentTerm())
	}
	if err != nil {
		forget()
	}
	return err
}

// AppendEntries implements raft.Transport.
func (g *guard) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := g.NetworkTransport.AppendEntries(id, target, args, resp)
	return g.answered(err, resp.Term, func() { *resp = raft.AppendEntriesResponse{} })
}

// RequestVote implements raft.Transport.
func (g *guard) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := g.NetworkTransport.RequestVote(id, target, args, resp)
	return g.answered(err, resp.Term, func() { *resp = raft.RequestVoteResponse{} })
}

// RequestPreVote implements raft.WithPreVote.
func (g *guard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	err := g.NetworkTransport.RequestPreVote(id, target, args, resp)
	return g.answered(err, resp.Term, func() { *resp = raft.RequestPreVoteResponse{} })
}

// InstallSnapshot implements raft.Transport.
func (g *guard) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	err := g.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
	return g.answered(err, resp.Term, func() { *resp = raft.InstallSnapshotResponse{} })
}

// AppendEntriesPipeline implements raft.Transport.
func (g *guard) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := g.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &guardedPipeline{AppendPipeline: inner, checked: make(chan raft.AppendFuture), done: make(chan struct{})}
	go p.check(g)
	return p, nil
}

type guardedPipeline struct {
	raft.AppendPipeline
	checked chan raft.AppendFuture
	done    chan struct{}
	once    sync.Once
}

// Consumer implements raft.AppendPipeline.
func (p *guardedPipeline) Consumer() <-chan raft.AppendFuture { return p.checked }

// Close implements raft.AppendPipeline.
func (p *guardedPipeline) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.AppendPipeline.Close()
}

func (p *guardedPipeline) check(g *guard) {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			if f.Error() == nil {
				_ = g.answered(nil, f.Response().Term, func() { *f.Response() = raft.AppendEntriesResponse{} }) // as if it had refused
			}
			select {
			case p.checked <- f:
			case <-p.done:
				return
			}
		case <-p.done:
			return
		}
	}
}

// admits returns why a host at an address gets no stream. Raft talks to the keepers of its
// configuration and, until that names this host, to the one that invited it.
func (l *Ledger) admits(k *keeper, id netmap.HostID, from netip.Addr) error {
	places := k.places(id)
	if len(places) == 0 {
		l.trusted.vouch(k, id)
		return fmt.Errorf("host %s wants a stream: %w", id.Short(), errStranger)
	}
	if slices.ContainsFunc(places, func(p netip.AddrPort) bool { return p.Addr().Unmap() == from }) {
		return nil
	}
	if l.cfg.addrOf(id).Addr().Unmap() == from && !l.trusted.atHome(l.ctx, id, places) { // it moved
		return nil
	}
	return fmt.Errorf("a stream in the name of host %s comes from %s, and that host is at %s; set WEFT_ADVERTISE there if it sends from another address", id.Short(), from, places[0])
}

// places returns where the ledger knows a keeper to be; nothing if the host is no keeper by
// this log.
func (k *keeper) places(id netmap.HostID) (out []netip.AddrPort) {
	known := k.vouched.list()
	if i := k.invited.Load(); i != nil && k.behind() {
		known = append(known, i.By)
	}
	for _, s := range k.servers() {
		if of, at, err := parseServer(s.Address); err == nil {
			known = append(known, Peer{ID: of, Addr: at})
		}
	}
	for _, p := range known {
		if p.ID == id {
			out = append(out, p.Addr)
		}
	}
	if len(out) > 0 {
		out = append(k.machine.addrsOf(id), out...)
	}
	return out
}

// mayVote refuses while this keeper is behind. It may have lost what was decided, and the
// candidate may know as little.
func (k *keeper) mayVote() error {
	if k.behind() {
		return errors.New("this keeper is brought up to date, and votes when it is")
	}
	return nil
}

// keyInvite is the invite on disk, until the log has come to where this host keeps it.
var keyInvite = []byte("weft-invite")

// invitedBy records on disk who may bring this host up to date.
func (k *keeper) invitedBy(i invite) error {
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	if err := k.log.Within(func() error { return k.log.Set(keyInvite, b) }); err != nil {
		return err
	}
	k.invited.Store(&i)
	k.pace(patience)
	return nil
}

// arrived forgets the invite once the log has caught up.
func (k *keeper) arrived() error {
	if k.invited.Load() == nil || k.behind() {
		return nil
	}
	if err := k.log.Within(func() error { return k.log.Set(keyInvite, nil) }); err != nil {
		return err
	}
	k.invited.Store(nil)
	k.pace(electionWait)
	return nil
}

// loadInvite reads the invite when a keeper starts.
func (k *keeper) loadInvite() error {
	b, err := k.log.Get(keyInvite)
	if errors.Is(err, raftlog.ErrNotFound) || err == nil && len(b) == 0 {
		return nil
	}
	var i invite
	if err == nil {
		err = json.Unmarshal(b, &i)
	}
	if err != nil {
		return fmt.Errorf("ledger: who asked this host to keep cannot be read: %w", err)
	}
	k.invited.Store(&i)
	return nil
}

// readable reports whether a command is one of this release.
func readable(b []byte) error {
	_, err := state.DecodeCommand(b)
	if _, refused := errors.AsType[*netmap.Refusal](err); refused { // it is refused when it is applied
		return nil
	}
	return err
}
