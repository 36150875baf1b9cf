package settings

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

var hostForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

// laterForms are ways to find peers that a later version will understand.
var laterForms = []string{"dns+", "dnssrv+", "mesos+", "marathon+", "exec:"}

// parseJoin leaves the port of a peer that has none empty ("host:"), to be
// filled in by finish.
func parseJoin(s *Settings, v string) error {
	s.Join = nil
	if v == "" {
		return nil
	}
	for word := range strings.SplitSeq(v, ",") {
		peer, err := parsePeer(strings.TrimSpace(word))
		if err != nil {
			return err
		}
		s.Join = append(s.Join, peer)
	}
	return nil
}

func parsePeer(word string) (string, error) {
	for _, form := range laterForms {
		if strings.HasPrefix(word, form) {
			return "", fmt.Errorf("peers of the form %s… are not in this version, which understands host and host:port only", form)
		}
	}
	if a, err := netip.ParseAddr(word); err == nil && a.Is6() {
		return "", fmt.Errorf("%s needs brackets, as in [%s]", word, word)
	}
	host, portText, err := net.SplitHostPort(withPort(word))
	if err != nil {
		return "", fmt.Errorf("%q is not a peer", word)
	}
	if portText != "" {
		if n, err := strconv.Atoi(portText); err != nil || n < 1 || n > 65535 {
			return "", fmt.Errorf("%q: %q is not a port number 1-65535", word, portText)
		}
	}
	return net.JoinHostPort(host, portText), checkHost(word, host)
}

// withPort adds an empty port where none is written, and makes a port that is
// written but empty unreadable.
func withPort(word string) string {
	switch {
	case strings.HasSuffix(word, ":"):
		return word + ":"
	case strings.HasSuffix(word, "]"), !strings.Contains(word, ":"):
		return word + ":"
	default:
		return word
	}
}

func checkHost(word, host string) error {
	a, err := netip.ParseAddr(host)
	switch {
	case err == nil && (a.IsUnspecified() || a.IsMulticast()):
		return fmt.Errorf("%s is not an address of a host", host)
	case err == nil && strings.HasPrefix(word, "[") != a.Is6():
		return fmt.Errorf("%q: brackets are for IPv6 addresses, and only for them", word)
	case err == nil:
		return nil
	case strings.HasPrefix(word, "["):
		return fmt.Errorf("%q: brackets are for IPv6 addresses, and only for them", word)
	case !hostForm.MatchString(host), len(host) > 253, numeric.MatchString(host):
		return fmt.Errorf("%q is neither a host name nor an address", host)
	default:
		return nil
	}
}
