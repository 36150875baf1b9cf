package replicate

import (
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/dockerapi"
)

// said is what Restarts hears of a container, after a while.
type said struct {
	after time.Duration
	kind  dockerapi.Kind
	id    string
}

// returning is who may be coming back some time after it was said.
type returning struct {
	said  []said
	after time.Duration
	want  []string
}

const (
	left    = dockerapi.Kind("left") // no event: the plugin is called
	created = dockerapi.ContainerCreated
	started = dockerapi.ContainerStarted
	died    = dockerapi.ContainerDied
	gone    = dockerapi.ContainerRemoved
)

// check says it all to a new Restarts.
func (c returning) check(t *testing.T, name string) {
	t.Helper()
	begin := time.Unix(1000, 0)
	r := NewRestarts()
	if r.Returning(begin) != nil {
		t.Error("something is known before Docker said anything")
	}
	r.hear(dockerapi.Event{Kind: dockerapi.Resync}, begin)
	for _, s := range c.said {
		if s.kind == left {
			r.Left(s.id, begin.Add(s.after))
			continue
		}
		e := dockerapi.Event{Kind: s.kind, Container: s.id, Name: s.id}
		if s.kind == dockerapi.ContainerRenamed {
			e.Name, e.OldName = "new name", s.id
		}
		r.hear(e, begin.Add(s.after))
	}
	if got := r.Returning(begin.Add(c.after)); !slices.Equal(got, c.want) {
		t.Errorf("%s: %q, want %q", name, got, c.want)
	}
}

func TestWhoMayBeComingBack(t *testing.T) {
	for name, c := range map[string]returning{
		"one that ended":                {[]said{{0, died, "web"}}, time.Second, []string{"web"}},
		"nobody ended":                  {nil, time.Second, nil},
		"it runs again":                 {[]said{{0, died, "web"}, {1, started, "web"}}, time.Second, nil},
		"it was removed":                {[]said{{0, died, "web"}, {1, gone, "web"}}, time.Second, nil},
		"another is new":                {[]said{{0, died, "web"}, {1, created, "db"}}, time.Second, nil},
		"the new one never starts":      {[]said{{0, created, "db"}, {time.Hour, died, "web"}}, time.Hour + 1, []string{"web"}},
		"the new one runs":              {[]said{{0, died, "web"}, {1, created, "db"}, {2, started, "db"}}, time.Second, []string{"web"}},
		"the new one could not start":   {[]said{{0, died, "web"}, {1, created, "db"}, {2, died, "db"}}, time.Second, []string{"db", "web"}},
		"the new one was removed":       {[]said{{0, died, "web"}, {1, created, "db"}, {2, gone, "db"}}, time.Second, []string{"web"}},
		"the latest are likelier":       {[]said{{0, died, "old"}, {time.Minute, died, "web"}}, time.Minute + 1, []string{"web"}},
		"all are as late":               {[]said{{0, died, "old"}, {time.Minute, died, "web"}}, 2 * time.Minute, []string{"old", "web"}},
		"it is too long ago":            {[]said{{0, died, "web"}}, time.Hour, nil},
		"events were lost":              {[]said{{0, died, "web"}, {1, dockerapi.Lost, ""}, {2, dockerapi.Resync, ""}}, time.Second, nil},
		"events do not come":            {[]said{{1, dockerapi.Lost, ""}, {2, died, "web"}}, time.Second, nil},
		"another name, the same one":    {[]said{{0, died, "web"}, {1, dockerapi.ContainerRenamed, "web"}}, time.Second, []string{"new name"}},
		"what means nothing":            {[]said{{0, died, "web"}, {1, dockerapi.Connected, "db"}}, time.Second, []string{"web"}},
		"a name of one that runs":       {[]said{{1, dockerapi.ContainerRenamed, "web"}}, time.Second, nil},
		"ended before the oldest there": {[]said{{0, died, "old"}, {time.Hour, died, "web"}}, time.Hour + time.Minute, []string{"web"}},
	} {
		c.check(t, name)
	}
}

// TestWhoLeftMayBeComingBack: the plugin is called before Docker tells of the end.
func TestWhoLeftMayBeComingBack(t *testing.T) {
	for name, c := range map[string]returning{
		"its end is not heard of yet": {[]said{{0, left, "web"}}, time.Second, []string{"web"}},
		"nor that it runs again":      {[]said{{0, left, "web"}, {1, died, "web"}, {2, started, "web"}, {3, left, "web"}}, time.Second, []string{"web"}},
		"its end was heard of before": {[]said{{0, died, "web"}, {1, left, "web"}, {2, started, "web"}}, time.Second, nil},
		"its end is heard of later":   {[]said{{0, left, "web"}, {1, died, "web"}}, time.Second, []string{"web"}},
		"it left and was removed":     {[]said{{0, left, "web"}, {1, gone, "web"}}, time.Second, nil},
		"it left and another is new":  {[]said{{0, left, "web"}, {1, created, "db"}}, time.Second, nil},
		"it only left":                {[]said{{0, left, "web"}}, time.Minute, nil},
		"it has no name yet":          {[]said{{0, left, ""}}, time.Second, nil},
	} {
		c.check(t, name)
	}
}
