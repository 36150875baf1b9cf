// Package mesos is what Weft does for hosts whose containers Mesos starts.
package mesos

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Shim mends the command lines by which Mesos starts containers.
type Shim struct {
	// DefaultNetwork is the network of containers that Mesos starts in the mode BRIDGE; empty: Docker's bridge.
	DefaultNetwork string
}

// Validate refuses a default network under which Mesos would find no address.
func (s Shim) Validate() error {
	switch name := s.DefaultNetwork; {
	case builtIn(name):
		return fmt.Errorf("--default-network %s is none of Weft's networks; name one that docker network ls shows with Weft's driver", name)
	case strings.Contains(name, "."):
		return fmt.Errorf("--default-network %s: Mesos finds no address on a network whose name has a dot; create one without", name)
	case strings.ContainsAny(name, ":=, "):
		return errors.New("--default-network takes the name of a network, and no further options")
	}
	return nil
}

// Mend returns the arguments that Docker's command should get for those that Mesos gave it. They are the same but for
// `docker run`, as Mesos writes it:
//
//   - An app's parameter net or network replaces the mode in Mesos' own --net, which comes before it. Mesos up to 1.11
//     passes both, which Docker's command refuses from 19.03 on.
//   - DefaultNetwork replaces bridge in Mesos' own --net.
func (s Shim) Mend(args []string) []string {
	own, parameters := networks(args)
	if own < 0 {
		return args
	}
	mode := args[own+1]
	switch {
	case len(parameters) > 0 && (builtIn(mode) || slices.Contains(parameters, mode)):
		return slices.Concat(args[:own], args[own+2:])
	case len(parameters) == 0 && mode == "bridge" && s.DefaultNetwork != "":
		return slices.Concat(args[:own+1], []string{s.DefaultNetwork}, args[own+2:])
	}
	return args
}

// builtIn reports whether a network is one that Docker's command lets no other stand beside.
func builtIn(network string) bool {
	return slices.Contains([]string{"host", "bridge", "none", "default"}, network)
}

// options are those options of `docker run` that Mesos writes as words of their own, from 0.20 to 1.12, and whether
// another word follows with the value. Everything else, parameters of apps among it, it writes as --option=value.
var options = map[string]bool{
	"-d": false, "--privileged": false,
	"-c": true, "--cpu-shares": true, "--cpu-quota": true, "-m": true, "--memory": true, "--memory-reservation": true, "--oom-score-adj": true,
	"-e": true, "-v": true, "--net": true, "--dns": true, "--dns-search": true, "--dns-opt": true, "--hostname": true, "-p": true,
	"--entrypoint": true, "--name": true,
}

// networks finds Mesos' own --net, and the networks that an app's parameters name. There is none in arguments that
// Mesos does not write.
func networks(args []string) (own int, parameters []string) {
	own = -1
	i := afterRun(args)
	for ; i > 0 && i < len(args) && strings.HasPrefix(args[i], "-"); i++ {
		option, value, joined := strings.Cut(args[i], "=")
		valued, known := options[args[i]]
		switch {
		case joined && (option == "--net" || option == "--network"):
			parameters = append(parameters, value)
		case joined && strings.HasPrefix(option, "--"):
		case !known, args[i] == "--net" && own >= 0:
			return -1, nil
		case args[i] == "--net":
			own = i
		}
		if valued {
			i++
		}
	}
	if i >= len(args) { // there is no image
		return -1, nil
	}
	return own, parameters
}

// afterRun is where the options of `docker run` begin; 0 if this is another command.
func afterRun(args []string) int {
	i := 0
	if len(args) > 2 && args[0] == "-H" { // not before Mesos 0.25
		i = 2
	}
	if i < len(args) && args[i] == "run" {
		return i + 1
	}
	return 0
}
