package api_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/api"
	"github.com/weftnet/weft/netmap"
)

func TestNamesReachTheAgentAndComeBack(t *testing.T) {
	client := api.At(window(t, &agent{}))
	nas := api.StaticName{Name: "nas", Network: "overlay", Addr: netip.MustParseAddr("192.0.2.7")}
	if got, err := client.AddName(t.Context(), nas); err != nil || got != "added {Name:nas Network:overlay Addr:192.0.2.7}" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := client.RemoveName(t.Context(), api.StaticName{Name: "nas", Network: "overlay"}); err != nil || got != "removed {Name:nas Network:overlay Addr:invalid IP}" {
		t.Errorf("%q, %v", got, err)
	}
	names, err := client.ListNames(t.Context(), api.NameQuery{Network: "overlay"})
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	answers, err := client.LookupName(t.Context(), api.NameQuery{Name: "db", Network: "overlay"})
	if err != nil || len(answers) != 1 {
		t.Fatal(answers, err)
	}
	const line, dated = "db overlay 10.32.0.7 - host-a alias (does not answer: it is down)", "db overlay 10.32.0.7 - host-a - alias (does not answer: it is down)"
	var list, short, traced bytes.Buffer
	trace := false
	if err := errors.Join(api.NamesText(&list, names), api.NameAnswers(&trace)(&short, answers)); err != nil {
		t.Fatal(err)
	}
	trace = true
	if err := api.NameAnswers(&trace)(&traced, answers); err != nil {
		t.Fatal(err)
	}
	words := func(b bytes.Buffer) string { return strings.Join(strings.Fields(b.String()), " ") }
	if !strings.Contains(words(list), line) || strings.Contains(words(short), dated) || !strings.Contains(words(traced), dated) {
		t.Errorf("the list says %q, a lookup %q, and with trace %q", list.String(), short.String(), traced.String())
	}
	answers[0].Names = append(answers[0].Names, api.Name{Name: "db", Network: "overlay", Source: "alias", Container: "db-2", Host: "host-b", Since: time.Date(2026, 11, 30, 12, 0, 0, 0, time.Local)})
	short.Reset()
	if err := api.NameAnswers(new(bool))(&short, answers); err != nil || !strings.Contains(strings.Join(strings.Fields(short.String()), " "), "db overlay none db-2 host-b 2026-11-30 12:00:00 alias") {
		t.Errorf("%q does not say since when db answers, %v", short.String(), err)
	}
	answers[0].Docker = "NXDOMAIN"
	if err := api.NameAnswers(&trace)(&traced, answers); err != nil || !strings.Contains(traced.String(), "Docker's resolver: NXDOMAIN") {
		t.Errorf("%q does not say what Docker's resolver says, %v", traced.String(), err)
	}
	if !strings.Contains(short.String(), "db. 5 IN A 10.32.0.7") {
		t.Errorf("no record in %q", short.String())
	}
	refused := api.At(window(t, &agent{refusal: netmap.Refuse(netmap.Unknown, "no network")}))
	if _, err := refused.LookupName(t.Context(), api.NameQuery{}); !errors.Is(err, &netmap.Refusal{Kind: netmap.Unknown}) {
		t.Errorf("a refusal comes back as %v", err)
	}
}
