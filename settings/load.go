package settings

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/weftnet/weft/secret"
)

// Source is where settings come from.
type Source struct {
	Environ []string          // as os.Environ; variables without the prefix are not looked at
	Flags   map[string]string // flags that were given, by Setting.Flag; they win over the environment
	Version string            // of this program, for messages
}

// Load reads and checks all settings. Its error lists everything that is wrong,
// one line each, and no secret.
func Load(src Source) (Settings, error) {
	var out Settings
	var problems []error
	env, err := environ(src.Environ)
	problems = append(problems, err, unknownFlags(src.Flags))
	for _, row := range Table() {
		problems = append(problems, row.load(&out, env, src))
	}
	if err := errors.Join(problems...); err != nil {
		return Settings{}, err
	}
	if err := out.finish(); err != nil {
		return Settings{}, err
	}
	return out, nil
}

// load takes the row's value from the flags, the environment or the default, in
// this order.
func (s Setting) load(out *Settings, env map[string]string, src Source) error {
	value, said := s.Default, s.Env
	if v, ok := env[s.Env]; ok {
		value = v
	}
	if v, ok := src.Flags[s.Flag()]; ok {
		value, said = v, "--"+s.Flag()
	}
	shown := value
	if s.Secret {
		shown = "(hidden)"
	}
	if strings.ContainsFunc(shown, unicode.IsControl) { // the log is read line by line
		shown = strconv.Quote(shown)
	}
	if err := s.parse(out, value); err != nil {
		return fmt.Errorf("%s=%s: %s", said, shown, s.explain(err))
	}
	if s.Secret && said != s.Env && !strings.HasPrefix(value, secret.File) && value != "" {
		return fmt.Errorf("%s=%s: every user of the host sees the arguments of a process; set %s, or give file:/path", said, shown, s.Env)
	}
	return nil
}

func (s Setting) explain(err error) string {
	if errors.Is(err, errWants) {
		return "want " + s.Wants
	}
	return err.Error() + "; want " + s.Wants
}

// environ picks our variables and refuses those that no setting has.
func environ(list []string) (map[string]string, error) {
	known := names(func(s Setting) string { return s.Env })
	rows := Table()
	out := map[string]string{}
	var problems []error
	for _, line := range list {
		name, value, _ := strings.Cut(line, "=")
		switch {
		case !strings.HasPrefix(name, Prefix):
		case slices.ContainsFunc(rows, func(s Setting) bool { return s.Env == name }):
			out[name] = value
		default:
			problems = append(problems, fmt.Errorf("%s: no such setting, %s", name, suggest(name, known)))
		}
	}
	return out, errors.Join(problems...)
}

func unknownFlags(flags map[string]string) error {
	known := names(Setting.Flag)
	rows := Table()
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if !slices.ContainsFunc(rows, func(s Setting) bool { return s.Flag() == name }) {
			problems = append(problems, fmt.Errorf("--%s: no such setting, %s", name, suggest(name, known)))
		}
	}
	return errors.Join(problems...)
}

// names lists what operators can set.
func names(of func(Setting) string) []string {
	var out []string
	for _, s := range Table() {
		if !s.Hidden {
			out = append(out, of(s))
		}
	}
	return out
}
