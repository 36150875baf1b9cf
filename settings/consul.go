package settings

import (
	"errors"
	"net/url"
	"strconv"
)

const wantsConsul = "a URL like http://127.0.0.1:8500 or https://127.0.0.1:8501, or empty"

// parseConsul takes the root of the API alone. A password in it would be shown by docker inspect;
// the token is in a file.
func parseConsul(s *Settings, v string) error {
	s.Consul = ""
	if v == "" {
		return nil
	}
	u, err := url.Parse(v)
	if err != nil {
		return errWants
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.User != nil:
		return errors.New("docker inspect shows it to everybody: a token belongs into the file consul/token of the state directory")
	case err != nil || port == 0 || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return errWants
	}
	s.Consul = u.Scheme + "://" + u.Host
	return nil
}
