package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// next is the next event, which must come soon.
func next(t *testing.T, from <-chan Event) Event {
	t.Helper()
	select {
	case e, ok := <-from:
		if !ok {
			t.Fatal("the watch ended")
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event within 10 s")
	}
	return Event{}
}

func expect(t *testing.T, from <-chan Event, want Event) {
	t.Helper()
	if diff := cmp.Diff(want, next(t, from), cmpopts.IgnoreFields(Event{}, "Err")); diff != "" {
		t.Fatal(diff)
	}
}

func TestWatch(t *testing.T) {
	f := newFake(t, "1.41")
	f.start()
	ctx, cancel := context.WithCancel(t.Context())
	from := f.open().Watch(ctx)
	expect(t, from, Event{Kind: Resync})

	for _, tc := range []struct {
		said string
		want Event
	}{
		{
			`{"Type":"network","Action":"create","Actor":{"ID":"n1","Attributes":{"name":"overlay","type":"weftnet/weft:latest"}},"scope":"local","time":1}`,
			Event{Kind: NetworkCreated, Network: "n1", Name: "overlay", Driver: "weftnet/weft:latest"},
		},
		{
			`{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1","name":"overlay","type":"weftnet/weft:latest"}}}`,
			Event{Kind: Connected, Network: "n1", Container: "c1", Name: "overlay", Driver: "weftnet/weft:latest"},
		},
		{`{"Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{"name":"web","image":"x"}}}`, Event{Kind: ContainerStarted, Container: "c1", Name: "web"}},
		{`{"Type":"container","Action":"rename","Actor":{"ID":"c1","Attributes":{"name":"www","oldName":"/web"}}}`, Event{Kind: ContainerRenamed, Container: "c1", Name: "www", OldName: "web"}},
		{`{"Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"name":"www","exitCode":"0"}}}`, Event{Kind: ContainerDied, Container: "c1", Name: "www"}},
		{`{"Type":"network","Action":"update","Actor":{"ID":"m6gj95olthyrnujkgmtzpdoox","Attributes":{"name":"sw"}},"scope":"swarm"}`, Event{Kind: NetworkUpdated, Network: "m6gj95olthyrnujkgmtzpdoox", Name: "sw"}},
		{`{"Type":"network","Action":"disconnect","Actor":{"ID":"n1","Attributes":{"container":"c1"}}}`, Event{Kind: Disconnected, Network: "n1", Container: "c1"}},
		{`{"Type":"container","Action":"create","Actor":{"ID":"c2","Attributes":{"name":"db"}}}`, Event{Kind: ContainerCreated, Container: "c2", Name: "db"}},
		{`{"Type":"container","Action":"destroy","Actor":{"ID":"c2","Attributes":{"name":"db"}}}`, Event{Kind: ContainerRemoved, Container: "c2", Name: "db"}},
		{`{"Type":"network","Action":"destroy","Actor":{"ID":"n1","Attributes":{"name":"overlay"}}}`, Event{Kind: NetworkRemoved, Network: "n1", Name: "overlay"}},
	} {
		f.say(`{"Type":"volume","Action":"create","Actor":{"ID":"c9"}}`) // passes the filter, means nothing here
		f.say(tc.said)
		expect(t, from, tc.want)
	}
	asked := strings.Join(f.asked(), "\n")
	if !strings.Contains(asked, `"type":{"container":true,"network":true}`) {
		t.Errorf("asked for %s", asked)
	}

	cancel()
	for range from {
	}
}

// TestWatchOutlivesDockers: dockerd goes, comes back as another version, and what
// happened meanwhile is for the Resync.
func TestWatchOutlivesDockers(t *testing.T) {
	f := newFake(t, "1.51")
	f.start()
	d := f.open()
	from := d.Watch(t.Context())
	expect(t, from, Event{Kind: Resync})

	f.stop()
	lost := next(t, from)
	if lost.Kind != Lost || lost.Err == nil {
		t.Fatalf("%+v, want a loss and its reason", lost)
	}
	f.api = "1.41"
	f.start()
	expect(t, from, Event{Kind: Resync})
	if got, err := d.Version(t.Context()); err != nil || got != "1.41" {
		t.Errorf("version %q, %v", got, err)
	}
	f.say(`{"Type":"network","Action":"destroy","Actor":{"ID":"n1"}}`)
	expect(t, from, Event{Kind: NetworkRemoved, Network: "n1"})
}

func TestWatchStartsBeforeDocker(t *testing.T) {
	f := newFake(t, "1.41")
	from := f.open().Watch(t.Context())
	expect(t, from, Event{Kind: Lost})
	f.start()
	expect(t, from, Event{Kind: Resync})
}

// TestWatchEndsWhileDockerHangs: a socket that accepts and does not answer, as at
// boot under socket activation.
func TestWatchEndsWhileDockerHangs(t *testing.T) {
	f := newFake(t, "1.41")
	f.hung = make(chan struct{})
	defer close(f.hung)
	f.start()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for e := range f.open().Watch(ctx) {
		t.Errorf("event %+v from nobody", e)
	}
}

func TestGarbageOnTheStreamIsALoss(t *testing.T) {
	f := newFake(t, "1.41")
	f.start()
	from := f.open().Watch(t.Context())
	expect(t, from, Event{Kind: Resync})
	f.say(`}{`)
	expect(t, from, Event{Kind: Lost})
	expect(t, from, Event{Kind: Resync})
}

// TestSlowReaders: nobody waits for a reader that does not read; it learns that
// it missed something.
func TestSlowReaders(t *testing.T) {
	out := make(chan Event, 2)
	w := watcher{out: out}
	message := func(i int) events.Message {
		return events.Message{Type: events.NetworkEventType, Action: events.ActionCreate, Actor: events.Actor{ID: fmt.Sprint(i)}}
	}
	for i := range 5 {
		w.deliver(message(i))
	}
	if !w.resync {
		t.Fatal("three events were dropped and no Resync is owed")
	}
	expect(t, out, Event{Kind: NetworkCreated, Network: "0"})
	w.deliver(message(5)) // there is room, but a listing comes anyway
	expect(t, out, Event{Kind: NetworkCreated, Network: "1"})

	from := client.EventsResult{Messages: make(chan events.Message), Err: make(chan error)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.copy(ctx, from) }()
	expect(t, out, Event{Kind: Resync})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case e := <-out:
		t.Errorf("%+v is left over", e)
	default:
	}
}

func TestLossIsToldOnce(t *testing.T) {
	out := make(chan Event, 4)
	w := watcher{out: out}
	for range 3 {
		w.lost(errors.New("refused"))
	}
	w.connected()
	w.lost(errors.New("refused"))
	if len(out) != 2 {
		t.Errorf("%d losses told of two outages", len(out))
	}
}
