package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/weftnet/weft/turn"
)

// backlog is how many events may wait for the reader. Further ones are dropped, and a
// Resync says so. Docker itself drops events for slow readers silently.
const backlog = 256

// errEnded is the error of a stream that Docker closed properly.
var errEnded = errors.New("Docker ended the event stream")

// Watch delivers events until ctx ends, then closes the channel. The first one is
// a Resync or a Lost. It reconnects without limit.
func (d *Docker) Watch(ctx context.Context) <-chan Event {
	out := make(chan Event, backlog)
	go d.watch(ctx, out)
	return out
}

func (d *Docker) watch(ctx context.Context, out chan<- Event) {
	defer close(out)
	w := watcher{out: out}
	pause := d.cfg.Retry
	for {
		opened, err := d.stream(ctx, &w)
		if ctx.Err() != nil {
			return
		}
		if opened {
			pause = d.cfg.Retry
		}
		w.lost(err)
		if !turn.Sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, 20*d.cfg.Retry)
		if err := d.renew(); err != nil {
			w.lost(err)
		}
	}
}

// stream reads events until the connection ends, and reports whether there was
// one.
func (d *Docker) stream(ctx context.Context, w *watcher) (bool, error) {
	if _, err := d.Version(ctx); err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(askTimeout, cancel) // a socket that accepts, and nothing else
	from := d.api().Events(ctx, client.EventsListOptions{Filters: wanted()})
	if !late.Stop() {
		return false, fmt.Errorf("dockerapi: no answer to a request for events within %s", askTimeout)
	}
	select {
	case err := <-from.Err:
		return false, fmt.Errorf("dockerapi: cannot get events: %w", ended(err))
	default:
	}
	w.connected()
	return true, w.copy(ctx, from)
}

func ended(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errEnded
	}
	return err
}

// watcher passes events to the reader and never waits for it. Only the goroutine of Watch
// uses its fields.
type watcher struct {
	out    chan<- Event
	resync bool // a Resync is owed
	down   bool // a Lost was delivered for this outage
}

func (w *watcher) connected() { w.resync, w.down = true, false }

// lost tells the reader about an outage once, if its queue is not full. The Resync that
// follows is sufficient for it.
func (w *watcher) lost(err error) {
	if w.down {
		return
	}
	select {
	case w.out <- Event{Kind: Lost, Err: err}:
		w.down = true
	default:
	}
}

// owed returns the channel for a Resync that is still to be sent; nil if there is none.
func (w *watcher) owed() chan<- Event {
	if w.resync {
		return w.out
	}
	return nil
}

func (w *watcher) copy(ctx context.Context, from client.EventsResult) error {
	for {
		select {
		case w.owed() <- Event{Kind: Resync}:
			w.resync = false
		case m := <-from.Messages:
			w.deliver(m)
		case err := <-from.Err:
			return fmt.Errorf("dockerapi: events broke off: %w", ended(err))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// deliver passes an event on. It drops events while a Resync is still to be sent, as the
// reader will list everything then.
func (w *watcher) deliver(m events.Message) {
	e, ok := translate(m)
	if !ok || w.resync {
		return
	}
	select {
	case w.out <- e:
	default:
		w.resync = true
	}
}
