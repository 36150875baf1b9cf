package mesos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/mesos"
)

// cluster is Marathon with one app, and a Mesos master.
type cluster struct {
	mu          sync.Mutex
	instances   int
	constraints string
	deploying   bool   // Marathon is, so it refuses what is not forced
	agents      string // what the master lists
	master      string // where Marathon says that it is
	puts        []string
}

func agent(host, more string) string {
	return fmt.Sprintf(`{"hostname":%q,"pid":"slave(1)@192.0.2.1:5051"%s}`, host, more)
}

func list(agents ...string) string {
	return `{"slaves":[` + strings.Join(agents, ",") + `],"recovered_slaves":[]}`
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch at := r.Method + " " + r.URL.Path; {
	case at == "GET /v2/info":
		fmt.Fprintf(w, `{"name":"marathon","marathon_config":{"mesos_leader_ui_url":%q}}`, c.master)
	case at == "GET /mesos/slaves":
		_, _ = io.WriteString(w, c.agents) // the client has gone
	case at == "GET /v2/apps/weft":
		fmt.Fprintf(w, `{"app":{"id":"/weft","instances":%d,"constraints":%s}}`, c.instances, c.constraints)
	case at == "PUT /v2/apps/weft" && c.deploying && r.URL.Query().Get("force") != "true":
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"message":"App is locked by one or more deployments. Override with the option '?force=true'."}`)
	case at == "PUT /v2/apps/weft":
		var body struct{ Instances *int }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Instances == nil || r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.instances, c.deploying = *body.Instances, true
		c.puts = append(c.puts, fmt.Sprint(c.instances, r.URL.RawQuery))
		_, _ = io.WriteString(w, `{"version":"2026-01-01T00:00:00.000Z","deploymentId":"5ed4c0c5"}`)
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"message":"App '%s' does not exist"}`, r.URL.Path)
	}
}

// serve starts a server and answers its URL.
func serve(t *testing.T, h http.Handler) *url.URL {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

const unique = `[["hostname","UNIQUE"]]`

// TestEverywhereFollowsTheAgents: they come, go, restart, and are unknown to a new master.
func TestEverywhereFollowsTheAgents(t *testing.T) {
	c := &cluster{instances: 1, constraints: unique, master: "/mesos"} // as DC/OS says it
	e := mesos.Everywhere{Marathon: serve(t, c), App: "/weft", Settle: 10 * time.Minute}
	now := time.Unix(0, 0)
	const suspend = -1 // somebody sets the instances to 0
	for _, step := range []struct {
		after             time.Duration
		agents            string
		deploying, dryRun bool
		say, puts         string
	}{
		{0, list(agent("a", ""), agent("b", `,"active":true`), agent("c", "")), false, true, "would tell Marathon to run 3", ""},
		{0, list(agent("a", ""), agent("b", `,"active":true`), agent("c", "")), false, false, "has 1 instances on 3 agents: told Marathon to run 3", "3"},
		{0, list(agent("a", ""), agent("b", ""), agent("c", "")), true, false, "nothing to do", "3"},
		{0, list(agent("a", ""), agent("b", ""), agent("c", ""), agent("c", ""), agent("d", `,"deactivated":true`)), false, false, "nothing to do", "3"},
		{0, list(agent("a", ""), agent("b", ""), agent("c", `,"active":false`)), false, false, "waits", "3"},
		{9 * time.Minute, list(agent("a", ""), agent("b", "")), false, false, "waits", "3"},
		{0, list(agent("a", ""), agent("b", ""), agent("c", "")), false, false, "nothing to do", "3"},
		{9 * time.Minute, list(agent("a", "")), false, false, "waits", "3"},
		{0, `{"slaves":[` + agent("a", "") + `],"recovered_slaves":[{"hostname":"b"},{"hostname":"c"}]}`, false, false, "nothing to do", "3"},
		{time.Minute, list(agent("a", "")), false, false, "waits", "3"},
		{10 * time.Minute, list(agent("a", "")), true, true, "would tell Marathon to run 1", "3"},
		{0, list(agent("a", "")), true, false, "told Marathon to run 1", "3 1force=true"}, // a deployment that cannot end
		{0, list(agent("a", ""), agent("b", "")), true, false, "/weft is being deployed", "3 1force=true"},
		{0, list(agent("a", ""), agent("b", "")), false, false, "told Marathon to run 2", "3 1force=true 2"},
		{suspend, list(agent("a", ""), agent("b", "")), false, false, "has 0 instances on 2 agents: it is suspended", "3 1force=true 2"},
	} {
		if step.after == suspend {
			c.instances, step.after = 0, 0
		}
		now = now.Add(step.after)
		c.agents, c.deploying, e.DryRun = step.agents, step.deploying, step.dryRun
		r, err := e.Step(t.Context(), now)
		said := r.String()
		if err != nil {
			said = err.Error()
		}
		if puts := strings.Join(c.puts, " "); !strings.Contains(said, step.say) || puts != step.puts {
			t.Errorf("%s: it says %q, want %q; Marathon was told %q, want %q", step.agents, said, step.say, puts, step.puts)
		}
	}
}

// TestEverywhereChangesNothingAfterABadAnswer of either server.
func TestEverywhereChangesNothingAfterABadAnswer(t *testing.T) {
	good := func() *cluster {
		return &cluster{instances: 1, constraints: unique, master: "/mesos", agents: list(agent("a", ""), agent("b", ""))}
	}
	var round *url.URL
	round = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "//"+round.Host+r.URL.Path, http.StatusTemporaryRedirect) // without a scheme, as Mesos does
	}))
	broken := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	hangs := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	endless := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"slaves":[`)
		blanks := strings.Repeat(" ", 1<<20)
		for range 100 {
			if _, err := io.WriteString(w, blanks); err != nil {
				return
			}
		}
	}))
	for _, bad := range []struct {
		name     string
		change   func(*cluster)
		marathon *url.URL // in place of the cluster's
		app      string
		master   *url.URL
		want     string
	}{
		{name: "no app", app: "/other", want: "there is no app /other in Marathon; post it first"},
		{name: "no constraint", change: func(c *cluster) { c.constraints = `[]` }, want: `want ["hostname", "UNIQUE"] alone`},
		{name: "another constraint", change: func(c *cluster) { c.constraints = `[["hostname","UNIQUE"],["rack","LIKE","a"]]` }, want: "alone"},
		{name: "another operator", change: func(c *cluster) { c.constraints = `[["hostname","GROUP_BY"]]` }, want: "alone"},
		{name: "no master", change: func(c *cluster) { c.master = "" }, want: "say --master"},
		{name: "no agents", change: func(c *cluster) { c.agents = list() }, want: "lists no active agent"},
		{name: "no list", change: func(c *cluster) { c.agents = `{}` }, want: "is it a Mesos master?"},
		{name: "no JSON", change: func(c *cluster) { c.agents = `<html>` }, want: "cannot be read"},
		{name: "Marathon is none", marathon: serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })), want: "is it Marathon?"},
		{name: "Marathon is broken", marathon: broken, want: "500 Internal Server Error"},
		{name: "Marathon hangs", marathon: hangs, want: "deadline exceeded"},
		{name: "the master is broken", master: broken, want: "500 Internal Server Error"},
		{name: "the master hangs", master: hangs, want: "deadline exceeded"},
		{name: "the master redirects to itself", master: round, want: "the 4. time"},
		{name: "the master sends 100 MB", master: endless, want: "too large"},
		{name: "nothing is there", master: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, want: "connection refused"},
	} {
		c := good()
		if bad.change != nil {
			bad.change(c)
		}
		e := mesos.Everywhere{Marathon: serve(t, c), Master: bad.master, App: "/weft"}
		if bad.marathon != nil {
			e.Marathon = bad.marathon
		}
		if bad.app != "" {
			e.App = bad.app
		}
		limit := time.Minute
		if strings.Contains(bad.name, "hangs") {
			limit = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := e.Step(ctx, time.Unix(0, 0))
		cancel()
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v, want %q", bad.name, err, bad.want)
		}
		if len(c.puts) > 0 {
			t.Errorf("%s: Marathon was told %q", bad.name, c.puts)
		}
	}
}

// TestEverywhereOnManyAgents: the list of 10,000 has 40 MB.
func TestEverywhereOnManyAgents(t *testing.T) {
	agents := make([]string, 10_000)
	more := `,"active":true,"resources":{"ports":"` + strings.Repeat("[31000-32000]", 300) + `"}`
	for i := range agents {
		agents[i] = agent(fmt.Sprintf("agent-%d.example", i), more)
	}
	c := &cluster{instances: 9_999, constraints: unique, master: "/mesos", agents: list(agents...)}
	e := mesos.Everywhere{Marathon: serve(t, c), App: "weft"}
	if r, err := e.Step(t.Context(), time.Unix(0, 0)); err != nil || !r.Changed || c.instances != 10_000 {
		t.Errorf("%v, %v", r, err)
	}
}
