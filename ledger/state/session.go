package state

import (
	"slices"

	"github.com/weftnet/weft/netmap"
)

// session guards one start of a host against the repetition of its requests: a
// request that was answered is answered the same again and does nothing, and one
// that nobody waits for any more does nothing either, so a copy that got stuck
// somewhere cannot undo what was decided after it.
type session struct {
	lowestOpen uint64 // nobody waits for a request below this number
	answered   []answered
}

type answered struct {
	Request uint64 `json:"request"`
	Reply   Reply  `json:"reply"`
}

// MaxAnswered bounds the answers kept for a host. A host never has two requests
// open that are so far apart (asking.begin), so none that is open is dropped.
const MaxAnswered = 128

// repeated finds the answer of an earlier copy of this request.
func (t *step) repeated() (earlier Reply, seen bool, refusal *netmap.Refusal) {
	if t.cmd.Request == 0 || t.self == nil || t.cmd.Start != t.self.Incarnation.Start {
		return Reply{}, false, nil
	}
	s := &t.self.session
	if i := slices.IndexFunc(s.answered, func(a answered) bool { return a.Request == t.cmd.Request }); i >= 0 {
		return s.answered[i].Reply, true, s.answered[i].Reply.Refusal
	}
	if t.cmd.Request < s.lowestOpen {
		late := t.tooLate(t.cmd.Request)
		return late, true, late.Refusal
	}
	return Reply{}, false, nil
}

// answer keeps the first answer to a request that somebody may wait for.
func (s *session) answer(request uint64, r Reply) {
	known := slices.ContainsFunc(s.answered, func(a answered) bool { return a.Request == request })
	if !known && request >= s.lowestOpen {
		s.answered = append(s.answered, answered{request, r})
	}
}

// tooLate is the answer to a request that was given up before it was decided.
func (t *step) tooLate(request uint64) Reply {
	return Reply{Index: t.index, Refusal: netmap.Refuse(netmap.BadInput, "request %d of %s comes too late: the host has given it up, and nothing was changed; give the command again", request, t.HostName(t.cmd.Host))}
}

// remember keeps the answer of a request for copies of it that come later.
func (t *step) remember() {
	h := t.hosts[t.cmd.Host]
	if h == nil || h.Removed || t.cmd.Request == 0 || h.Incarnation != (Incarnation{t.cmd.Start, t.cmd.Nonce}) {
		return
	}
	s := &h.session
	s.lowestOpen = max(s.lowestOpen, t.cmd.LowestOpen)
	s.answer(t.cmd.Request, t.reply)
	for _, n := range t.cmd.Over {
		s.answer(n, t.tooLate(n))
	}
	s.answered = slices.DeleteFunc(s.answered, func(a answered) bool { return a.Request < s.lowestOpen })
	if n := len(s.answered) - MaxAnswered; n > 0 {
		s.lowestOpen = max(s.lowestOpen, s.answered[n-1].Request+1)
		s.answered = slices.DeleteFunc(s.answered, func(a answered) bool { return a.Request < s.lowestOpen })
	}
}
