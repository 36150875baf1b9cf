package plugintest

import (
	"context"
	"maps"
	"slices"

	"github.com/weftnet/weft/dockerapi"
	"github.com/weftnet/weft/netmap"
)

// Container implements plugin.Docker. The id of a container is its name.
func (e *Engine) Container(_ context.Context, id string) (dockerapi.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[id]
	if c == nil || !c.Running {
		return dockerapi.Container{}, e.broken
	}
	names := netmap.EndpointName{Name: c.Name, Hostname: "host-of-" + c.Name, Short: "short-of-" + c.Name}
	return dockerapi.Container{Names: map[netmap.EndpointID]netmap.EndpointName{c.Endpoint: names}, First: c.Endpoint}, e.broken
}

// Connected implements plugin.Docker.
func (e *Engine) Connected(_ context.Context, _, container string) (netmap.EndpointID, string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[container]
	if c == nil || !c.Running {
		return "", "", e.broken
	}
	return c.Endpoint, c.Name, e.broken
}

// Running implements plugin.Docker.
func (e *Engine) Running(context.Context) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := slices.Sorted(maps.Keys(e.containers))
	return slices.DeleteFunc(all, func(name string) bool { return !e.containers[name].Running }), e.broken
}
