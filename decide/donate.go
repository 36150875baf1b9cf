package decide

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/ipam"
	"github.com/weftnet/weft/ledger/state"
	"github.com/weftnet/weft/netmap"
)

// donateRequest is the name of the host-to-host request for addresses that the asked host does
// not need.
const donateRequest = "ipam/donate"

// Bounds of AskOthers. A container waits for it.
const (
	maxAsked  = 12 // hosts
	askWithin = 1200 * time.Millisecond
)

type donateQuestion struct {
	Subnet netip.Prefix  `json:"subnet"`
	Within netip.Prefix  `json:"within"`
	To     netmap.HostID `json:"to"`
}

// serveDonate answers another host that found no free block.
func (d *Decider) serveDonate(ctx context.Context, _ netip.AddrPort, body []byte) ([]byte, error) {
	var q donateQuestion
	if err := json.Unmarshal(body, &q); err != nil || !q.Within.IsValid() {
		return nil, netmap.Refuse(netmap.BadInput, "the request to donate addresses cannot be read: %v", err)
	}
	r, err := d.ipam.Donate(ctx, q.Subnet, q.Within, q.To)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// AskOthers implements ipam.Decisions. After the ledger, it asks first the hosts that have most
// free addresses according to the facts; these may be late, so it asks also those that seem to
// have none. Its refusal says who holds how much.
func (d *Decider) AskOthers(ctx context.Context, r ipam.BlockRequest) (ipam.Donation, error) {
	c, err := d.claimAny(ctx, &state.Claim{Subnet: r.Subnet, Within: r.Within})
	if err == nil || !errors.Is(err, &netmap.Refusal{Kind: netmap.Exhausted}) {
		return ipam.Donation{Claim: c}, err
	}
	view, generation := d.cfg.Gossip.View(), d.cfg.Member.Generation()
	all := Shares(view, r.Subnet, r.Within)
	answers := map[netmap.HostID]string{d.cfg.Self: ""}
	asked := 0
	for _, s := range slices.SortedFunc(slices.Values(all), byFree) {
		if s.Host == d.cfg.Self || asked == maxAsked || ctx.Err() != nil {
			continue
		}
		if !d.cfg.Member.Alive(s.Host) {
			answers[s.Host] = "does not answer"
			continue
		}
		asked++
		got, err := d.askDonation(ctx, view, s.Host, donateQuestion{Subnet: r.Subnet, Within: r.Within, To: d.cfg.Self})
		if err == nil {
			return got, d.cfg.Member.StillIn(generation)
		}
		answers[s.Host] = whyNot(err)
	}
	return ipam.Donation{}, scarce(view, all, answers)
}

// ClaimForHost implements ipam.Decisions.
func (d *Decider) ClaimForHost(ctx context.Context, subnet netip.Prefix) (netmap.Claim, error) {
	return d.claimAny(ctx, &state.Claim{Subnet: subnet, Host: true})
}

// claimAny asks the ledger for any address that lies in no host's block.
func (d *Decider) claimAny(ctx context.Context, c *state.Claim) (netmap.Claim, error) {
	generation := d.cfg.Member.Generation()
	reply, err := d.cfg.Member.Decide(ctx, state.Command{Kind: state.KindClaim, Claim: c})
	if err != nil {
		return netmap.Claim{}, err
	}
	return *reply.Claim, d.cfg.Member.StillIn(generation)
}

func (d *Decider) askDonation(ctx context.Context, view *netmap.View, id netmap.HostID, q donateQuestion) (ipam.Donation, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return ipam.Donation{}, fmt.Errorf("decide: %w", err)
	}
	answer, err := d.cfg.Port.Call(ctx, d.underlayOf(view, id), donateRequest, body)
	if err != nil {
		return ipam.Donation{}, err
	}
	var r ipam.Donation
	if err := json.Unmarshal(answer, &r); err != nil {
		return r, fmt.Errorf("decide: host %s answers the request to donate with something that cannot be read: %w", view.HostName(id), err)
	}
	return r, nil
}

// whyNot says why a host gave nothing; empty if it has nothing free.
func whyNot(err error) string {
	var refusal *netmap.Refusal
	switch {
	case errors.Is(err, &netmap.Refusal{Kind: netmap.Exhausted}):
		return ""
	case errors.As(err, &refusal):
		return "refuses: " + refusal.Text
	}
	return "does not answer"
}

// scarce refuses with who holds how much, those with most first, and what to do.
func scarce(view *netmap.View, all []Share, answers map[netmap.HostID]string) *netmap.Refusal {
	slices.SortStableFunc(all, func(a, b Share) int { return cmp.Compare(b.Used+b.Free, a.Used+a.Free) })
	words, gone := make([]string, 0, len(all)), []string{}
	for i, s := range all {
		if i == 8 {
			words = append(words, fmt.Sprintf("%d further hosts the rest", len(all)-i))
			break
		}
		name := view.HostName(s.Host)
		why, asked := answers[s.Host]
		if !asked {
			why = "was not asked in time"
		}
		words = append(words, fmt.Sprintf("%s %s", name, holding(s, why)))
		if why == "does not answer" {
			gone = append(gone, "weft host rm "+name)
		}
	}
	if len(words) == 0 {
		words = []string{"all are reserved or claimed one by one"}
	}
	remedy := "stop containers there, or use a larger subnet"
	if len(gone) > 0 {
		remedy = fmt.Sprintf("stop containers there, repair or remove the hosts that are gone (%s), or use a larger subnet", strings.Join(gone, ", "))
	}
	return netmap.Refuse(netmap.Exhausted, "%s; %s", strings.Join(words, ", "), remedy)
}

// holding describes a host's share.
func holding(s Share, why string) string {
	total := s.Used + s.Free
	if why == "" {
		return fmt.Sprintf("has %d, all in use", total)
	}
	return fmt.Sprintf("has %d, %d in use, and %s", total, s.Used, why)
}
