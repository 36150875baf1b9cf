package replicate

import (
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/dockerapi"
)

func TestWhoMayBeComingBack(t *testing.T) {
	begin := time.Unix(1000, 0)
	type say struct {
		after time.Duration
		kind  dockerapi.Kind
		id    string
	}
	const left = dockerapi.Kind("left") // no event: the plugin is called
	const created, started, died, gone = dockerapi.ContainerCreated, dockerapi.ContainerStarted, dockerapi.ContainerDied, dockerapi.ContainerRemoved
	for name, c := range map[string]struct {
		said  []say
		after time.Duration
		want  []string
	}{
		"one that ended":                {[]say{{0, died, "web"}}, time.Second, []string{"web"}},
		"nobody ended":                  {nil, time.Second, nil},
		"it runs again":                 {[]say{{0, died, "web"}, {1, started, "web"}}, time.Second, nil},
		"it was removed":                {[]say{{0, died, "web"}, {1, gone, "web"}}, time.Second, nil},
		"another is new":                {[]say{{0, died, "web"}, {1, created, "db"}}, time.Second, nil},
		"the new one never starts":      {[]say{{0, created, "db"}, {time.Hour, died, "web"}}, time.Hour + 1, []string{"web"}},
		"the new one runs":              {[]say{{0, died, "web"}, {1, created, "db"}, {2, started, "db"}}, time.Second, []string{"web"}},
		"the new one could not start":   {[]say{{0, died, "web"}, {1, created, "db"}, {2, died, "db"}}, time.Second, []string{"db", "web"}},
		"the new one was removed":       {[]say{{0, died, "web"}, {1, created, "db"}, {2, gone, "db"}}, time.Second, []string{"web"}},
		"the latest are likelier":       {[]say{{0, died, "old"}, {time.Minute, died, "web"}}, time.Minute + 1, []string{"web"}},
		"all are as late":               {[]say{{0, died, "old"}, {time.Minute, died, "web"}}, 2 * time.Minute, []string{"old", "web"}},
		"it is too long ago":            {[]say{{0, died, "web"}}, time.Hour, nil},
		"events were lost":              {[]say{{0, died, "web"}, {1, dockerapi.Lost, ""}, {2, dockerapi.Resync, ""}}, time.Second, nil},
		"events do not come":            {[]say{{1, dockerapi.Lost, ""}, {2, died, "web"}}, time.Second, nil},
		"another name, the same one":    {[]say{{0, died, "web"}, {1, dockerapi.ContainerRenamed, "web"}}, time.Second, []string{"new name"}},
		"what means nothing":            {[]say{{0, died, "web"}, {1, dockerapi.Connected, "db"}}, time.Second, []string{"web"}},
		"a name of one that runs":       {[]say{{1, dockerapi.ContainerRenamed, "web"}}, time.Second, nil},
		"its end is not heard of yet":   {[]say{{0, left, "web"}}, time.Second, []string{"web"}},
		"nor that it runs again":        {[]say{{0, left, "web"}, {1, died, "web"}, {2, started, "web"}, {3, left, "web"}}, time.Second, []string{"web"}},
		"its end was heard of before":   {[]say{{0, died, "web"}, {1, left, "web"}, {2, started, "web"}}, time.Second, nil},
		"its end is heard of later":     {[]say{{0, left, "web"}, {1, died, "web"}}, time.Second, []string{"web"}},
		"it left and was removed":       {[]say{{0, left, "web"}, {1, gone, "web"}}, time.Second, nil},
		"it left and another is new":    {[]say{{0, left, "web"}, {1, created, "db"}}, time.Second, nil},
		"it only left":                  {[]say{{0, left, "web"}}, time.Minute, nil},
		"it has no name yet":            {[]say{{0, left, ""}}, time.Second, nil},
		"ended before the oldest there": {[]say{{0, died, "old"}, {time.Hour, died, "web"}}, time.Hour + time.Minute, []string{"web"}},
	} {
		r := NewRestarts()
		r.hear(dockerapi.Event{Kind: dockerapi.Resync}, begin)
		for _, s := range c.said {
			e := dockerapi.Event{Kind: s.kind, Container: s.id, Name: s.id}
			if s.kind == dockerapi.ContainerRenamed {
				e.Name, e.OldName = "new name", s.id
			}
			if s.kind == left {
				r.Left(s.id, begin.Add(s.after))
				continue
			}
			r.hear(e, begin.Add(s.after))
		}
		if got := r.Returning(begin.Add(c.after)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if r := NewRestarts(); r.Returning(begin) != nil {
		t.Error("something is known before Docker said anything")
	}
}
