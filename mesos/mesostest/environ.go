package mesostest

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// portEnv are the variables that tell a task its ports.
func portEnv(mappings []PortMapping, given []PortAssignment) map[string]string {
	env := map[string]string{}
	var hostPorts, generated []string
	for i, p := range given {
		port, asked := p.HostPort, mappings[i].ContainerPort
		switch {
		case port != 0:
			hostPorts = append(hostPorts, number(port))
		case asked != 0:
			port = asked
		default:
			port = unusedPort(given)
			given[i].ContainerPort = port
			generated = append(generated, number(port))
		}
		if asked == 0 {
			asked = port
		}
		env["PORT"+strconv.Itoa(i)] = number(port)
		env["PORT_"+strconv.Itoa(asked)] = number(port)
		if p.Name != "" {
			env["PORT_"+strings.ToUpper(p.Name)] = number(port)
		}
	}
	if len(given) == 0 {
		return env
	}
	all := append(hostPorts, generated...)
	if len(all) > 0 {
		env["PORT"] = all[0]
	}
	env["PORTS"] = strings.Join(all, ",")
	return env
}

// unusedPort is a port for a container that leaves the choice to Marathon. Marathon draws one; this is the first, so
// that tests can be repeated.
func unusedPort(given []PortAssignment) int {
	port := 1025
	for slices.ContainsFunc(given, func(p PortAssignment) bool { return p.HostPort == port || p.ContainerPort == port }) {
		port++
	}
	return port
}

var unsafeInEnv = regexp.MustCompile(`[^a-zA-Z0-9_]+`)

// labelEnv are the variables that tell a task the labels of its app.
func labelEnv(labels map[string]string) map[string]string {
	const longest = 512
	const prefix = "MARATHON_APP_LABEL_"
	env := map[string]string{}
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if len(key) >= longest-len(prefix) || len(labels[key]) >= longest {
			continue
		}
		safe := strings.ToUpper(unsafeInEnv.ReplaceAllString(key, "_"))
		keys = append(keys, safe)
		env[prefix+safe] = labels[key]
	}
	env["MARATHON_APP_LABELS"] = strings.Join(keys, " ")
	return env
}

func number(n int) string { return strconv.Itoa(n) }

// double is a number as Scala prints a Double between 0.001 and ten million.
func double(f float64) string {
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}
