package mesos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// maxAgents is how many bytes a list of agents may have: those of more than 10,000.
const maxAgents = 64 << 20

// Everywhere keeps an app of Marathon at one instance for each Mesos agent, which Marathon itself cannot.
type Everywhere struct {
	Marathon *url.URL
	Master   *url.URL      // nil: the one that Marathon names
	App      string        // its id
	Settle   time.Duration // agents that are missing count after they have been missing for so long
	DryRun   bool

	fewer time.Time // there are fewer agents than instances since; zero: there are not
}

// Round says how many agents and instances there were, and how many instances there should be.
type Round struct {
	App       string `json:"app"`
	Agents    int    `json:"agents"`
	Instances int    `json:"instances"`
	Want      int    `json:"want"`
	Suspended bool   `json:"suspended"` // the app has no instances because its operator wants none
	Settling  bool   `json:"settling"`  // agents are missing that may come back
	Changed   bool   `json:"changed"`   // Marathon was told
}

// String says what was done.
func (r Round) String() string {
	text := fmt.Sprintf("%s has %d instances on %d agents", r.App, r.Instances, r.Agents)
	switch {
	case r.Suspended:
		return text + ": it is suspended and stays so; set its instances to 1 in Marathon to go on"
	case r.Changed:
		return fmt.Sprintf("%s: told Marathon to run %d", text, r.Want)
	case r.Settling:
		return text + ": waits whether the missing agents come back"
	case r.Want != r.Instances:
		return fmt.Sprintf("%s: would tell Marathon to run %d", text, r.Want)
	}
	return text + ": nothing to do"
}

// Step compares once and tells Marathon the number of instances if it is wrong.
func (e *Everywhere) Step(ctx context.Context, now time.Time) (Round, error) {
	c := Client{MaxBody: maxAgents}
	instances, err := e.instances(ctx, c)
	if err != nil {
		return Round{}, err
	}
	agents, err := e.agents(ctx, c)
	if err != nil {
		return Round{}, err
	}
	r := e.decide(now, agents, instances)
	if r.Want == r.Instances || e.DryRun {
		return r, nil
	}
	r.Changed = true
	return r, e.scale(ctx, c, r)
}

// decide says how many instances there should be. Agents that restart, or that have not registered with a new master
// yet, come back: fewer agents count only after a while. No instances is how an operator suspends an app.
func (e *Everywhere) decide(now time.Time, agents, instances int) Round {
	r := Round{App: e.App, Agents: agents, Instances: instances, Want: agents}
	if agents >= instances {
		e.fewer = time.Time{}
		if instances == 0 {
			r.Want, r.Suspended = 0, true
		}
		return r
	}
	if e.fewer.IsZero() {
		e.fewer = now
	}
	if now.Sub(e.fewer) < e.Settle {
		r.Want, r.Settling = instances, true
	}
	return r
}

// instances is how many the app should have, by Marathon.
func (e *Everywhere) instances(ctx context.Context, c Client) (int, error) {
	var got struct {
		App *struct {
			Instances   int        `json:"instances"`
			Constraints [][]string `json:"constraints"`
		} `json:"app"`
	}
	err := c.get(ctx, e.app(), &got)
	switch {
	case errors.Is(err, status(http.StatusNotFound)):
		return 0, fmt.Errorf("there is no app %s in Marathon; post it first: %w", e.App, err)
	case err != nil:
		return 0, err
	case got.App == nil:
		return 0, fmt.Errorf("the answer of %s is no app; is it Marathon?", e.Marathon.Redacted())
	}
	if c := got.App.Constraints; len(c) != 1 || len(c[0]) < 2 || c[0][0] != "hostname" && c[0][0] != "@hostname" || c[0][1] != "UNIQUE" {
		return 0, fmt.Errorf(`the constraints of %s are %q, want ["hostname", "UNIQUE"] alone: one instance on each agent`, e.App, c)
	}
	return got.App.Instances, nil
}

func (e *Everywhere) app() *url.URL { return e.Marathon.JoinPath("v2", "apps", e.App) }

// agents is on how many hosts an instance can run. A host with two agents counts once, as it does for UNIQUE.
func (e *Everywhere) agents(ctx context.Context, c Client) (int, error) {
	master := e.Master
	if master == nil {
		var err error
		if master, err = e.leader(ctx, c); err != nil {
			return 0, err
		}
	}
	agents, err := c.Agents(ctx, master)
	if err != nil {
		return 0, err
	}
	hosts := map[string]bool{}
	for _, a := range agents {
		hosts[a.Hostname] = true
	}
	if len(hosts) == 0 {
		return 0, fmt.Errorf("%s lists no active agent; the instances stay as they are", master.Redacted())
	}
	return len(hosts), nil
}

// leader is the Mesos master that Marathon is registered with.
func (e *Everywhere) leader(ctx context.Context, c Client) (*url.URL, error) {
	var got struct {
		Config struct {
			URL string `json:"mesos_leader_ui_url"`
		} `json:"marathon_config"`
	}
	if err := c.get(ctx, e.Marathon.JoinPath("v2", "info"), &got); err != nil {
		return nil, err
	}
	at, err := e.Marathon.Parse(got.Config.URL) // DC/OS says /mesos
	if err != nil || got.Config.URL == "" {
		return nil, fmt.Errorf("the Mesos master is %q by Marathon; say --master http://MASTER:5050", got.Config.URL)
	}
	return at, nil
}

// scale tells Marathon. With fewer agents than instances no deployment of the app ends by itself, so it does not keep
// this one from beginning.
func (e *Everywhere) scale(ctx context.Context, c Client, r Round) error {
	at := e.app()
	if r.Want < r.Instances {
		at.RawQuery = "force=true"
	}
	err := c.do(ctx, http.MethodPut, at, fmt.Sprintf(`{"instances":%d}`, r.Want), new(any))
	if errors.Is(err, status(http.StatusConflict)) {
		return fmt.Errorf("%s is being deployed; %d instances have to wait for that: %w", e.App, r.Want, err)
	}
	return err
}
