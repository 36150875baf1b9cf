package dockerapi

import (
	"strings"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// Kind says what happened.
type Kind string

// The kinds of events.
const (
	// Resync comes when the stream is open, at first and after each time it broke, and after
	// events were dropped. What the caller knew before may be stale: it has to list again.
	// From then on it gets an event for each change.
	Resync Kind = "resync"
	// Lost comes once when the stream cannot be opened; Err says why. Watch opens it again
	// by itself, and then sends a Resync.
	Lost Kind = "lost"

	NetworkCreated   Kind = "network-created"
	NetworkUpdated   Kind = "network-updated" // a swarm's, which gets its driver after it was created
	NetworkRemoved   Kind = "network-removed"
	Connected        Kind = "connected"    // a container to a network
	Disconnected     Kind = "disconnected" // a container from a network
	ContainerCreated Kind = "container-created"
	ContainerRemoved Kind = "container-removed"
	ContainerStarted Kind = "container-started"
	ContainerDied    Kind = "container-died"
	ContainerRenamed Kind = "container-renamed"
	ContainerHealth  Kind = "container-health" // its health check began to succeed, or to fail
)

// Event is one thing that happened in the local Docker. Fields that do not belong
// to its kind are empty.
type Event struct {
	Kind      Kind
	Network   string // Docker's network id
	Container string // Docker's container id
	Name      string // of the network or, for container events, of the container
	OldName   string // ContainerRenamed
	Driver    string // of the network
	Err       error  // Lost
}

// wanted makes Docker filter: exec events are many, and so is "health_status: running".
func wanted() client.Filters {
	return client.Filters{}.
		Add("type", string(events.NetworkEventType), string(events.ContainerEventType)).
		Add("event", string(events.ActionCreate), string(events.ActionUpdate), string(events.ActionDestroy), string(events.ActionConnect),
			string(events.ActionDisconnect), string(events.ActionStart), string(events.ActionDie), string(events.ActionRename),
			string(events.ActionHealthStatusHealthy), string(events.ActionHealthStatusUnhealthy))
}

var kinds = map[events.Type]map[events.Action]Kind{
	events.NetworkEventType: {
		events.ActionCreate:     NetworkCreated,
		events.ActionUpdate:     NetworkUpdated,
		events.ActionDestroy:    NetworkRemoved,
		events.ActionConnect:    Connected,
		events.ActionDisconnect: Disconnected,
	},
	events.ContainerEventType: {
		events.ActionCreate:  ContainerCreated,
		events.ActionDestroy: ContainerRemoved,
		events.ActionStart:   ContainerStarted,
		events.ActionDie:     ContainerDied,
		events.ActionRename:  ContainerRenamed,

		events.ActionHealthStatusHealthy:   ContainerHealth,
		events.ActionHealthStatusUnhealthy: ContainerHealth,
	},
}

// translate returns false for events that no caller needs.
func translate(m events.Message) (Event, bool) {
	kind, ok := kinds[m.Type][m.Action]
	if !ok || m.Actor.ID == "" {
		return Event{}, false
	}
	about := m.Actor.Attributes
	e := Event{Kind: kind, Name: strings.TrimPrefix(about["name"], "/")}
	if m.Type == events.NetworkEventType {
		e.Network, e.Container, e.Driver = m.Actor.ID, about["container"], about["type"]
	} else {
		e.Container, e.OldName = m.Actor.ID, strings.TrimPrefix(about["oldName"], "/")
	}
	return e, true
}
