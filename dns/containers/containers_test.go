package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// docker has containers by id, each with one endpoint of the same id.
type docker struct {
	events chan dockerapi.Event

	mu         sync.Mutex
	containers map[string]netmap.EndpointName
	broken     error
	asked      map[string]int
	busy       chan struct{} // if set, answers wait until it is closed
}

func (d *docker) Watch(context.Context) <-chan dockerapi.Event { return d.events }

func (d *docker) Container(ctx context.Context, id string) (dockerapi.Container, error) {
	d.mu.Lock()
	busy := d.busy
	d.asked[id]++
	d.mu.Unlock()
	if busy != nil {
		select {
		case <-busy:
		case <-ctx.Done():
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	names, ok := d.containers[id]
	if !ok || d.broken != nil {
		return dockerapi.Container{}, d.broken
	}
	e := netmap.EndpointID(id)
	return dockerapi.Container{Names: map[netmap.EndpointID]netmap.EndpointName{e: names}, First: e}, nil
}

func (d *docker) Connected(_ context.Context, _, container string) (netmap.EndpointID, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names, ok := d.containers[container]
	if !ok || d.broken != nil {
		return "", "", d.broken
	}
	return netmap.EndpointID(container), names.Name, nil
}

func (d *docker) Running(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.containers)), d.broken
}

func (d *docker) set(id string, n netmap.EndpointName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.containers[id] = n
}

func (d *docker) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = err
}

func (d *docker) count(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[id]
}

// disk is a bucket in memory.
type disk struct {
	mu   sync.Mutex
	kept map[string][]byte
	full error
}

func (d *disk) Load() (map[string][]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.kept), nil
}

func (d *disk) Commit(set map[string][]byte, del ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full != nil {
		return d.full
	}
	maps.Copy(d.kept, set)
	for _, key := range del {
		delete(d.kept, key)
	}
	return nil
}

func (d *disk) fill(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = err
}

// scene follows a docker in a bubble.
type scene struct {
	*docker
	disk    *disk
	names   *Names
	mu      sync.Mutex
	told    []string // containers, as they were called when Docker told of them
	problem string
}

func (s *scene) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

func follow(t *testing.T, play func(s *scene)) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{docker: &docker{events: make(chan dockerapi.Event, 100), containers: map[string]netmap.EndpointName{}, asked: map[string]int{}}, disk: &disk{kept: map[string][]byte{}}}
		names, err := OpenNames(s.disk)
		if err != nil {
			t.Fatal(err)
		}
		s.names = names
		ctx, cancel := context.WithCancel(t.Context())
		var following sync.WaitGroup
		following.Go(func() {
			Follow(ctx, Config{
				Docker: s.docker, Names: names,
				Nameless: func() bool { return names.Container("web") == "" },
				Called:   func(id netmap.EndpointID, n netmap.EndpointName, first bool) { names.Put(id, n, first) },
				Told: func(c dockerapi.Container) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.told = append(s.told, names.Container(c.First))
				},
				Problem: func(_, sentence string) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.problem = sentence
				},
			})
		})
		play(s)
		cancel()
		following.Wait()
	})
}

func (s *scene) tell(kind dockerapi.Kind, id string) {
	e := dockerapi.Event{Kind: kind, Container: id}
	if kind == dockerapi.Connected {
		e.Network = "overlay"
	}
	s.events <- e
	synctest.Wait()
}

func TestNamesFollowEvents(t *testing.T) {
	follow(t, func(s *scene) {
		called := func(when, want string) {
			t.Helper()
			if got := s.names.Container("web"); got != want {
				t.Errorf("%s the container is called %q, want %q", when, got, want)
			}
		}
		s.set("web", netmap.EndpointName{Name: "at-first"})
		s.tell(dockerapi.Resync, "")
		called("after the stream was opened", "at-first")
		for _, kind := range []dockerapi.Kind{dockerapi.Connected, dockerapi.ContainerStarted, dockerapi.ContainerRenamed, dockerapi.ContainerHealth} {
			s.set("web", netmap.EndpointName{Name: string(kind)})
			s.tell(kind, "web")
			called("after "+string(kind), string(kind))
		}
		before := s.count("web")
		s.tell(dockerapi.ContainerDied, "web")
		s.tell(dockerapi.NetworkCreated, "")
		if s.count("web") != before {
			t.Error("an event that names nothing leads to a question")
		}
	})
}

// TestAllThatDockerTellsIsPassedOn after the names: about what runs, and what does not any more.
func TestAllThatDockerTellsIsPassedOn(t *testing.T) {
	follow(t, func(s *scene) {
		s.set("web", netmap.EndpointName{Name: "first"})
		s.tell(dockerapi.ContainerStarted, "web")
		s.set("web", netmap.EndpointName{Name: "second"})
		s.tell(dockerapi.ContainerRenamed, "web")
		s.tell(dockerapi.ContainerStarted, "gone")
		if want := []string{"first", "second", ""}; !slices.Equal(s.told, want) {
			t.Errorf("told %q, want %q", s.told, want)
		}
	})
}

// TestAQuestionThatFailedIsAskedAgain, also where every container has a name: the name may be the old one.
func TestAQuestionThatFailedIsAskedAgain(t *testing.T) {
	follow(t, func(s *scene) {
		for _, kind := range []dockerapi.Kind{dockerapi.ContainerRenamed, dockerapi.Resync} {
			s.set("web", netmap.EndpointName{Name: "old"})
			s.tell(dockerapi.ContainerRenamed, "web")
			s.set("web", netmap.EndpointName{Name: "new"})
			s.fail(errors.New("busy"))
			s.tell(kind, "web")
			s.fail(nil)
			time.Sleep(retryAfter)
			synctest.Wait()
			if got := s.names.Container("web"); got != "new" {
				t.Errorf("after %s, when Docker did not answer, the container is called %q", kind, got)
			}
		}
	})
}

// TestAContainerIsAskedAboutOnceMore: Docker answers only when it has started the container. What happens
// meanwhile leads to one more question, and other containers do not wait.
func TestAContainerIsAskedAboutOnceMore(t *testing.T) {
	follow(t, func(s *scene) {
		s.tell(dockerapi.Resync, "")
		busy := make(chan struct{})
		s.docker.mu.Lock()
		s.busy = busy
		s.docker.mu.Unlock()
		s.set("web", netmap.EndpointName{Name: "old"})
		for range 5 {
			s.tell(dockerapi.ContainerRenamed, "web")
		}
		s.docker.mu.Lock()
		s.busy = nil
		s.docker.mu.Unlock()
		s.set("db", netmap.EndpointName{Name: "db"})
		s.tell(dockerapi.ContainerStarted, "db")
		if s.names.Container("db") != "db" || s.names.Container("web") != "" {
			t.Error("one container waits for another")
		}
		s.set("web", netmap.EndpointName{Name: "new"})
		close(busy)
		synctest.Wait()
		if n := s.count("web"); n != 2 || s.names.Container("web") != "new" {
			t.Errorf("%d questions, and the container is called %q", n, s.names.Container("web"))
		}
	})
}

// TestAContainerHasItsNameBeforeItRuns: Docker tells its other names once it has started it.
func TestAContainerHasItsNameBeforeItRuns(t *testing.T) {
	follow(t, func(s *scene) {
		s.tell(dockerapi.Resync, "")
		busy := make(chan struct{})
		s.docker.mu.Lock()
		s.busy = busy
		s.docker.mu.Unlock()
		s.set("web", netmap.EndpointName{Name: "web", Aliases: []string{"www"}})
		s.tell(dockerapi.Connected, "web")
		if names, _ := s.names.Of("web"); names.Name != "web" || len(names.Aliases) > 0 {
			t.Errorf("before it has started it is called %+v", names)
		}
		close(busy)
		synctest.Wait()
		s.tell(dockerapi.Connected, "web") // again, as for a second network
		if names, _ := s.names.Of("web"); names.Name != "web" || !slices.Equal(names.Aliases, []string{"www"}) {
			t.Errorf("after that it is called %+v", names)
		}
	})
}

func TestAFailureIsRepeated(t *testing.T) {
	follow(t, func(s *scene) {
		s.set("web", netmap.EndpointName{Name: "web"})
		s.fail(errors.New("docker restarts"))
		s.tell(dockerapi.Resync, "")
		time.Sleep(10 * retryAfter)
		s.fail(nil)
		time.Sleep(retryAfter)
		synctest.Wait()
		if got := s.names.Container("web"); got != "web" {
			t.Errorf("the container is called %q", got)
		}
	})
}

// TestNamesAreOnDisk: an agent that starts again knows them, and those of endpoints that are gone are not kept.
func TestNamesAreOnDisk(t *testing.T) {
	follow(t, func(s *scene) {
		s.tell(dockerapi.Resync, "")
		s.disk.fill(errors.New("full"))
		for _, id := range []string{"web", "db"} {
			s.set(id, netmap.EndpointName{Name: id + "-1", Aliases: []string{"x"}})
			s.tell(dockerapi.ContainerStarted, id)
		}
		time.Sleep(saveAfter)
		s.disk.fill(nil)
		time.Sleep(retryAfter)
		synctest.Wait()
		again, err := OpenNames(s.disk)
		if err != nil {
			t.Fatal(err)
		}
		names, first := again.Of("web")
		if names.Name != "web-1" || !slices.Equal(names.Aliases, []string{"x"}) || !first || again.Container("db") != "db-1" {
			t.Errorf("on disk is %+v", names)
		}
		s.names.Drop("db")
		time.Sleep(2 * saveAfter)
		synctest.Wait()
		again.Keep(func(id netmap.EndpointID) bool { return id != "web" })
		if err := again.Save(); err != nil || len(s.disk.kept) != 0 {
			t.Errorf("%d are kept, %v", len(s.disk.kept), err)
		}
	})
}

func TestNamesAreBounded(t *testing.T) {
	follow(t, func(s *scene) {
		many := netmap.EndpointName{Name: "web", Hostname: strings.Repeat("h", 300), Aliases: []string{"a\nb", strings.Repeat("a", 254)}}
		for i := range 10000 {
			many.Aliases = append(many.Aliases, fmt.Sprint("alias-", i))
			many.Services = append(many.Services, netmap.Service{Port: uint16(i + 1), Protocol: netmap.TCP})
		}
		s.set("web", many)
		s.tell(dockerapi.Resync, "")
		names, _ := s.names.Of("web")
		if len(names.Aliases) != netmap.MaxAliases || names.Aliases[0] != "alias-0" || len(names.Services) != netmap.MaxServices || names.Hostname != "" {
			t.Errorf("%d aliases from %q, %d services, hostname %q", len(names.Aliases), names.Aliases[0], len(names.Services), names.Hostname)
		}
		if _, err := netmap.Encode(netmap.NameKey("web"), names); err != nil {
			t.Errorf("it is no record: %v", err)
		}
		if !strings.Contains(s.shown(), "64 ports: 1;") {
			t.Errorf("shown is %q", s.shown())
		}
		s.tell(dockerapi.ContainerRemoved, "web")
		if s.shown() != "" {
			t.Errorf("shown is %q after the container was removed", s.shown())
		}
	})
}
