package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/probe"
)

// What is looked up in a container, by whom it is answered.
const (
	ownName       = "own-name"       // of a container on another host, by Weft
	dockersName   = "dockers-name"   // of a container on a bridge network of this host, by Docker
	throughWeft   = "through-weft"   // a name that does not exist, by Weft, Docker and another server
	throughDocker = "through-docker" // the same by Docker and the other server
)

var (
	overlays  = []string{overWeft, overSwarm}
	lookedUp  = []string{ownName, dockersName, throughWeft, throughDocker}
	benchName = "bench-name" // of the container that comes and goes
)

// lookups is how often each round asks for each of lookedUp.
const lookups = 500

// placeNames makes what names are measured with: a server that knows no name, on the server's host, and
// containers on the client's host whose Docker asks it.
func (b *bench) placeNames(ctx context.Context) error {
	_, err := b.server().Docker(ctx, "run", "-d", "--name", "bench-dns", "--net", "host", lab.BusyBoxImage,
		"probe", "nothing", "-addr", b.server().Addr4().String()+":53")
	for path, network := range map[string]string{overWeft: dockerNetwork[overWeft], overSwarm: dockerNetwork[overSwarm], onOwnBridge: dockerNetwork[onOwnBridge]} {
		if err == nil {
			_, err = b.client().Docker(ctx, "run", "-d", "--name", asker(path), "--net", network, "--dns", b.server().Addr4().String(), lab.BusyBoxImage, "sleep", "86400")
		}
	}
	for _, path := range overlays {
		if err == nil {
			_, err = b.server().Docker(ctx, "create", "--name", benchName+"-"+path, "--net", dockerNetwork[path], lab.BusyBoxImage, "sleep", "86400")
		}
	}
	return err
}

// asker is the container that asks for names on a kind of network.
func asker(path string) string { return "bench-asker-" + path }

// names takes one of each measurement of names.
func (b *bench) names(ctx context.Context, n int, one *samples) error {
	found, gone, err := b.freshness(ctx, n)
	if err != nil {
		return err
	}
	p50, err := b.lookup(ctx, n)
	one.found, one.gone, one.lookups = []sample{found}, []sample{gone}, []sample{p50}
	return err
}

// freshness starts and kills a container on one host and looks from the other, in turn on each overlay. The
// samples are the seconds from the call to Docker until its name is found, and until it is not.
func (b *bench) freshness(ctx context.Context, n int) (found, gone sample, err error) {
	found, gone = sample{}, sample{}
	for _, path := range turned(overlays, n) {
		f, g, err := b.comeAndGo(ctx, path)
		if err != nil {
			return nil, nil, fmt.Errorf("names on %s: %w", titles[path], err)
		}
		found[path], gone[path] = f.Seconds(), g.Seconds()
	}
	return found, gone, nil
}

// watched is longer than a container takes to start and to end.
const watched = 8 * time.Second

func (b *bench) comeAndGo(ctx context.Context, path string) (found, gone time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name := benchName + "-" + path
	type answer struct {
		spans []probe.Span
		err   error
	}
	looked := make(chan answer, 1)
	go func() {
		var a answer
		var out string
		out, a.err = b.client().Docker(ctx, "exec", asker(path), "probe", "names", "-every", "2ms", "-for", watched.String(), name)
		a.err = errors.Join(a.err, json.Unmarshal([]byte(out), &a.spans))
		looked <- a
	}()
	time.Sleep(watched / 8) // until the probe asks
	start := time.Now()
	_, startErr := b.server().Docker(ctx, "start", name)
	time.Sleep(watched / 4) // a name that is found late is found still
	kill := time.Now()
	_, killErr := b.server().Docker(ctx, "kill", name)
	a := <-looked
	if err := errors.Join(startErr, killErr, a.err); err != nil {
		return 0, 0, err
	}
	for _, span := range a.spans {
		switch is := strings.Contains(span.Answer, "."); {
		case is && found == 0:
			found = span.Since.Sub(start)
		case !is && span.Since.After(kill) && gone == 0:
			gone = span.Since.Sub(kill)
		}
	}
	if found <= 0 || gone <= 0 {
		return 0, 0, fmt.Errorf("the name was not found, or not gone, within %s: %+v", watched, a.spans)
	}
	return found, gone, nil
}

// lookup times questions in containers, p50 in microseconds.
func (b *bench) lookup(ctx context.Context, n int) (sample, error) {
	p50 := sample{}
	for _, what := range turned(lookedUp, n) {
		path, name := overWeft, container(overWeft)
		switch what {
		case dockersName:
			path, name = onOwnBridge, asker(onOwnBridge)
		case throughWeft:
			name = "nobody.example"
		case throughDocker:
			path, name = onOwnBridge, "nobody.example"
		}
		var times probe.Times
		out, err := b.client().Docker(ctx, "exec", asker(path), "probe", "lookups", "-count", fmt.Sprint(lookups), name)
		if err == nil {
			err = json.Unmarshal([]byte(out), &times)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", titles[what], err)
		}
		p50[what] = times.P50
	}
	return p50, nil
}
