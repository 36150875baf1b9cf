// Package consultest has a server that keeps what a Consul agent keeps of services, by the rules
// of its HTTP API, and answers for them as Consul's DNS does.
package consultest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Service is a registration as Consul takes it, field by field.
type Service struct {
	ID, Name, Address string
	Tags              []string
	Port              int
	TaggedAddresses   map[string]struct {
		Address string
		Port    int
	}
	Meta  map[string]string
	Check *Check
}

// Check is the check of a registration.
type Check struct {
	HTTP, Method, TCP, GRPC, TTL, Interval, Timeout, Status string
	GRPCUseTLS, TLSSkipVerify                               bool
	Args                                                    []string
	DeregisterCriticalServiceAfter                          string
}

// Agent is a Consul agent. It is an http.Handler, and safe for concurrent use.
type Agent struct {
	mu       sync.Mutex
	services map[string]Service
	requests []string
	token    string
	denied   map[string]bool
	broken   http.HandlerFunc
}

// New makes an agent without services. It wants a token with each request, unless that is empty.
func New(token string) *Agent {
	return &Agent{services: map[string]Service{}, token: token, denied: map[string]bool{}}
}

// Put has a service that somebody else registered.
func (a *Agent) Put(s Service) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.services[s.ID] = s
}

// Remove deregisters a service in somebody else's place.
func (a *Agent) Remove(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.services, id)
}

// Restart loses all services, as an agent without a data directory does.
func (a *Agent) Restart() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.services)
}

// Deny has registrations of a name refused, as ACLs do.
func (a *Agent) Deny(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied[name] = true
}

// Break has all requests answered by a function; nil mends it.
func (a *Agent) Break(how http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = how
}

// Services returns what is registered, by id.
func (a *Agent) Services() map[string]Service {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.services)
}

// Requests returns the changes that were asked for since the last call, in order.
func (a *Agent) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() { a.requests = nil }()
	return a.requests
}

// Answer returns the addresses for NAME.service.consul or TAG.NAME.service.consul: each once,
// without services whose check has not passed.
func (a *Agent) Answer(name string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	tag := ""
	if dot := strings.LastIndex(name, "."); dot >= 0 { // all labels before the last are one tag
		tag, name = name[:dot], name[dot+1:]
	}
	found := map[string]bool{}
	for _, s := range a.services {
		passing := s.Check == nil || s.Check.Status == "passing"
		if passing && strings.EqualFold(s.Name, name) && (tag == "" || slices.ContainsFunc(s.Tags, func(t string) bool { return strings.EqualFold(t, tag) })) {
			found[s.Address] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// ServeHTTP implements http.Handler.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	broken := a.broken
	a.mu.Unlock()
	if broken != nil {
		broken(w, r)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	status, answer := a.serve(r)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer) // the client's trouble
}

func (a *Agent) serve(r *http.Request) (status int, answer string) {
	if r.Header.Get("X-Consul-Token") != a.token {
		return http.StatusForbidden, "Permission denied: token with AccessorID 'anonymous' lacks permission"
	}
	id, deregister := strings.CutPrefix(r.URL.Path, "/v1/agent/service/deregister/")
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/v1/agent/services" && r.URL.RawQuery == "":
		return a.list()
	case r.Method != http.MethodPut:
		return http.StatusMethodNotAllowed, "method " + r.Method + " not allowed"
	case r.URL.Path == "/v1/agent/service/register" && r.URL.RawQuery == "replace-existing-checks=true":
		return a.register(r.Body)
	case deregister && r.URL.RawQuery == "":
		a.requests = append(a.requests, "deregister "+id)
		if _, there := a.services[id]; !there {
			return http.StatusNotFound, fmt.Sprintf("Unknown service ID %q", id)
		}
		delete(a.services, id)
		return http.StatusOK, ""
	}
	return http.StatusNotFound, "no such path: " + r.URL.String()
}

// list answers as Consul does: other names of fields than in a registration, and no checks.
func (a *Agent) list() (status int, answer string) {
	out := map[string]any{}
	for id, s := range a.services {
		out[id] = map[string]any{
			"ID": id, "Service": s.Name, "Tags": slices.Concat([]string{}, s.Tags), "Meta": s.Meta, "Port": s.Port, "Address": s.Address,
			"TaggedAddresses": s.TaggedAddresses, "Weights": map[string]int{"Passing": 1, "Warning": 1}, "EnableTagOverride": false, "Datacenter": "dc1",
		}
	}
	text, err := json.Marshal(out)
	if err != nil {
		return http.StatusInternalServerError, err.Error()
	}
	return http.StatusOK, string(text)
}

func (a *Agent) register(body io.Reader) (status int, answer string) {
	var s Service
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return http.StatusBadRequest, "Request decode failed: " + err.Error()
	}
	a.requests = append(a.requests, "register "+s.ID)
	if a.denied[s.Name] {
		return http.StatusForbidden, "Permission denied: token lacks permission 'service:write' on " + fmt.Sprintf("%q", s.Name)
	}
	if wrong := s.wrong(); wrong != "" {
		return http.StatusBadRequest, wrong
	}
	a.services[s.ID] = s
	return http.StatusOK, ""
}

var metaKey = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// wrong returns why Consul refuses a registration.
func (s Service) wrong() string {
	const mostPairs, mostKey, mostValue = 64, 128, 512
	if s.ID == "" || s.Name == "" || s.Address == "" || s.Port < 1 || s.Port > 65535 {
		return "Missing service name, id, address or port"
	}
	if len(s.Meta) > mostPairs {
		return "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs"
	}
	for key, value := range s.Meta {
		if !metaKey.MatchString(key) || len(key) > mostKey || len(value) > mostValue || strings.HasPrefix(key, "consul-") {
			return fmt.Sprintf("Invalid Service Meta: Couldn't load metadata pair (%q, %q)", key, value)
		}
	}
	if s.Check == nil {
		return ""
	}
	return s.Check.wrong()
}

func (c Check) wrong() string {
	kinds := 0
	for _, is := range []bool{c.HTTP != "", c.TCP != "", c.GRPC != "", c.TTL != "", len(c.Args) > 0} {
		if is {
			kinds++
		}
	}
	for _, d := range []string{c.TTL, c.Interval, c.Timeout, c.DeregisterCriticalServiceAfter} {
		if _, err := time.ParseDuration(d); d != "" && err != nil {
			return "Request decode failed: " + err.Error()
		}
	}
	switch {
	case kinds != 1 || (c.TTL == "") == (c.Interval == ""):
		return "Invalid check: Interval or TTL must be set, of one kind"
	case len(c.Args) > 0:
		return "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"
	case !slices.Contains([]string{"", "passing", "warning", "critical"}, c.Status):
		return "Invalid check: status " + c.Status
	}
	return ""
}
