package attack

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"time"

	"github.com/weftnet/weft/netmap"
)

// Commands are the attacks in the name of a host that asks the ledger for a decision.
func Commands() []Attack {
	return []Attack{
		{"commands: every host removes the others, leaves, and starts again elsewhere", func(ctx context.Context, t Target) error {
			defer func() { <-ctx.Done() }()
			return t.commands(ctx)
		}},
	}
}

// starts are what the keepers tell everybody of themselves.
type starts struct {
	ID    netmap.HostID `json:"id"`
	Start struct {
		Start uint64 `json:"start"`
		Nonce uint64 `json:"nonce"`
	} `json:"start"`
	Addr netip.AddrPort `json:"addr"`
}

// commands sends each keeper the commands in the name of each.
func (t Target) commands(ctx context.Context) error {
	var report struct {
		Voters []struct {
			Addr netip.AddrPort `json:"addr"`
		} `json:"voters"`
	}
	if err := t.ask(ctx, t.Addr, "ledger.report", make([]byte, 16), &report); err != nil {
		return fmt.Errorf("%w: %w", errNoReach, err)
	}
	for _, victim := range report.Voters {
		var of starts
		if err := t.ask(ctx, victim.Addr, "ledger.start", nil, &of); err != nil {
			return fmt.Errorf("%w: %w", errNoReach, err)
		}
		for _, to := range report.Voters {
			for _, command := range t.inTheNameOf(of) {
				body, err := json.Marshal(map[string]any{"v": 1, "body": command})
				if err != nil {
					return err
				}
				_ = t.ask(ctx, to.Addr, "ledger.do", body, &struct{}{}) // refused, which is what is tested
			}
			_ = t.ask(ctx, to.Addr, "ledger.vacate", of.ID[:], &struct{}{})
		}
	}
	if len(report.Voters) < 2 {
		return fmt.Errorf("%w: there are %d keepers", errNoReach, len(report.Voters))
	}
	return nil
}

func (t Target) inTheNameOf(of starts) []map[string]any {
	command := func(kind string, more map[string]any) map[string]any {
		out := map[string]any{"kind": kind, "cluster": t.Cluster, "host": of.ID, "start": of.Start.Start, "nonce": of.Start.Nonce}
		maps.Copy(out, more)
		return out
	}
	var out []map[string]any
	for _, target := range append([]netmap.HostID{t.Host}, t.Others...) {
		out = append(out, command("remove", map[string]any{"remove": map[string]any{"target": target, "is_off": true}}))
	}
	again := func(addr netip.AddrPort) map[string]any {
		return command("admit", map[string]any{"start": of.Start.Start + 1, "nonce": 1, "admit": map[string]any{"name": "mine", "addr": addr}})
	}
	return append(out, command("leave", nil), again(of.Addr), again(t.From))
}

// ask sends a request and reads the answer.
func (t Target) ask(ctx context.Context, at netip.AddrPort, name string, body []byte, answer any) error {
	conn, err := t.Dial(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerWait))
	frame := binary.BigEndian.AppendUint32(preface('r'), uint32(5+len(name)+len(body)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(answerWait.Milliseconds()))
	frame = append(append(append(frame, byte(len(name))), name...), body...)
	if _, err := conn.Write(frame); err != nil {
		return err
	}
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	text := make([]byte, min(binary.BigEndian.Uint32(head[:])-1, 1<<20))
	if _, err := io.ReadFull(conn, text); err != nil {
		return err
	}
	if head[4] != 0 {
		return fmt.Errorf("refused: %s", text)
	}
	return json.Unmarshal(text, &struct {
		Body any `json:"body"`
	}{answer})
}
