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

// backlog is how many events may wait for their reader; beyond it they are
// dropped and a Resync says so. Docker itself drops events for slow readers
// without a word.
const backlog = 256

// errEnded is what a stream that Docker closed properly ends with.
var errEnded = errors.New("Docker ended the event stream")

// Watch delivers events until ctx ends, then closes the channel. The first one is
// a Resync or a Lost. It reconnects for ever.
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

// watcher hands events to the reader without ever waiting for it. Its fields
// belong to the goroutine of Watch.
type watcher struct {
	out    chan<- Event
	resync bool // a Resync is owed
	down   bool // a Lost was delivered for this outage
}

func (w *watcher) connected() { w.resync, w.down = true, false }

// lost tells the reader about an outage once, if it has room for it; the Resync
// that follows is what counts.
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

// owed is where a Resync goes as soon as the reader has room; nil if none is owed.
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

// deliver drops what comes while a Resync is owed: it will be listed.
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
