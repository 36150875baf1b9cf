package discover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Wants says what an entry may be.
const Wants = "host or host:port, an IPv6 address in brackets, dns+NAME, dnssrv+NAME, mesos+http://MASTER:5050, marathon+http://HOST:8080/APP or exec:COMMAND"

// maxName is the longest name of a host.
const maxName = 253

// form is the way in which an entry names peers.
type form string

const (
	plainForm    form = "" // host[:port]
	dnsForm      form = "dns+"
	srvForm      form = "dnssrv+"
	mesosForm    form = "mesos+"
	marathonForm form = "marathon+"
	execForm     form = "exec:"
)

// prefixed are the forms with a prefix.
var prefixed = []form{dnsForm, srvForm, mesosForm, marathonForm, execForm}

// Entry is one way to find peers, as WEFT_JOIN and weft connect take it.
type Entry struct {
	form form
	text string // as it is shown; equal for entries that mean the same
	host string // name or address: plain, dns+
	port uint16 // plain, dns+
	rest string // what follows the prefix
	url  *url.URL
}

// String is the entry in the form that Parse takes; with the port where it has one.
func (e Entry) String() string { return e.text }

// Parse reads an entry; port is for those that name none.
func Parse(word string, port uint16) (Entry, error) {
	word = strings.TrimSpace(word)
	for _, f := range prefixed {
		if rest, ok := strings.CutPrefix(word, string(f)); ok {
			e := Entry{form: f, text: word, rest: strings.TrimSpace(rest), port: port}
			return e, e.parseRest()
		}
	}
	if scheme, _, ok := strings.Cut(word, "://"); ok {
		return Entry{}, fmt.Errorf("%q is not a form of peers", scheme+"://")
	}
	host, port, err := parseHost(word, port)
	return Entry{text: net.JoinHostPort(host, strconv.Itoa(int(port))), host: host, port: port}, err
}

// parseRest reads what follows the prefix.
func (e *Entry) parseRest() (err error) {
	switch e.form {
	case dnsForm:
		e.host, e.port, err = parseHost(e.rest, e.port)
	case srvForm:
		e.host, err = e.rest, checkHost(e.rest, e.rest)
	case mesosForm, marathonForm:
		err = e.parseURL()
	case execForm:
		if e.rest == "" {
			err = errors.New("exec: without a command")
		}
	}
	if _, notName := netip.ParseAddr(e.host); err == nil && notName == nil && (e.form == dnsForm || e.form == srvForm) {
		err = fmt.Errorf("%s is an address, %s takes a name", e.host, e.form)
	}
	return err
}

// parseURL reads the address of a Mesos master or of a Marathon app. It refuses passwords,
// since the status shows the entry.
func (e *Entry) parseURL() (err error) {
	e.url, err = url.Parse(e.rest)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a URL", e.rest)
	case e.url.Scheme != "http" || e.url.Hostname() == "":
		return fmt.Errorf("%q is not of the form %shttp://HOST:PORT", e.text, e.form)
	case e.url.User != nil || e.url.RawQuery != "" || e.url.Fragment != "":
		return errors.New("neither a password nor a query may be in the URL; a command (exec:) can use them")
	case e.form == marathonForm && strings.Trim(e.url.Path, "/") == "":
		return fmt.Errorf("%q names no app, as in marathon+http://HOST:8080/APP", e.text)
	}
	return nil
}

// parseHost reads host or host:port.
func parseHost(word string, port uint16) (string, uint16, error) {
	if a, err := netip.ParseAddr(word); err == nil && a.Is6() {
		return "", 0, fmt.Errorf("%s needs brackets, as in [%s]", word, word)
	}
	host, portText, err := net.SplitHostPort(withPort(word))
	if err != nil {
		return "", 0, fmt.Errorf("%q is not a peer", word)
	}
	if portText != "" {
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("%q: %q is not a port number 1-65535", word, portText)
		}
		port = uint16(n)
	}
	return host, port, checkHost(word, host)
}

// withPort adds an empty port if there is none, so that net.SplitHostPort accepts the text.
// A port that is written but empty becomes an error.
func withPort(word string) string {
	if strings.HasSuffix(word, ":") || strings.HasSuffix(word, "]") || !strings.Contains(word, ":") {
		return word + ":"
	}
	return word
}

var (
	hostForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)
	numeric  = regexp.MustCompile(`^[0-9.]+$`)
)

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
	case !hostForm.MatchString(host), len(host) > maxName, numeric.MatchString(host):
		return fmt.Errorf("%q is neither a host name nor an address", host)
	default:
		return nil
	}
}

// ListsAgents reports whether a Mesos master says which hosts the entry stands for.
func (e Entry) ListsAgents() bool { return e.form == mesosForm }

// trusted reports whether the operator, and no other program, says which hosts the entry
// stands for.
func (e Entry) trusted() bool { return e.form == plainForm || e.form == execForm }
