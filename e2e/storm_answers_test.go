package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// excuse is a good answer of a command that did not work.
type excuse struct {
	because string
	says    *regexp.Regexp
}

// excuses are all of them. The first three are about the call that was under way when
// the agent was killed: dockerd missed its answer and repeated it, in vain.
var excuses = []excuse{
	{"the agent was killed during the call", regexp.MustCompile(`Docker had no answer to the same call before, because the agent was ended, and repeats a call without its body; give the docker command again`)},
	{"Docker found no agent for 15 s", regexp.MustCompile(`weft\.sock: connect: (no such file or directory|connection refused)`)},
	{"the agent was killed during the last repetition", regexp.MustCompile(`weft\.sock/\S+": (EOF|read unix .*: connection reset by peer|write unix .*: broken pipe)`)},
	{"a container has the address", regexp.MustCompile(`ipam: \S+ is held by .* on this host; stop that container or choose another address`)},
	{"a container on another host has the address", regexp.MustCompile(`host host\d keeps the address: .*held by`)},
	{"the address is between two containers", regexp.MustCompile(`is being (handed out or taken back|ceded to another host) at this moment; try again`)},
	{"the owner of the address was killed", regexp.MustCompile(`belongs to host host\d, which does not answer .*; wait until it is back or choose another --ip`)},
	{"no majority of the keepers at that moment", regexp.MustCompile(`nothing can be decided now: .*(must reach each other: .*; start those hosts or repair the network between them|try again)`)},
}

// logs is how long every member's log of Docker and its agent is now.
func (s *scene) logs() map[string]int64 {
	out := map[string]int64{}
	for _, h := range s.members() {
		file := filepath.Join(h.LogDir(), "dockerd.log")
		info, err := os.Stat(file)
		must(s.t, err)
		out[file] = info.Size()
	}
	return out
}

// took is in the agent's line about a call.
var took = regexp.MustCompile(`msg=call method=(\S+) took=(\S+)`)

// answers checks in the agents' logs that every call of Docker's was answered in time,
// and that no agent ended by itself.
func (m *storm) answers(logs map[string]int64) {
	calls, longest := 0, time.Duration(0)
	for file, from := range logs {
		text, err := os.ReadFile(file)
		must(m.t, err)
		for line := range strings.Lines(string(text[from:])) {
			if strings.Contains(line, "panic:") || strings.Contains(line, "fatal error:") {
				m.t.Errorf("%s: %s", file, line)
			}
			match := took.FindStringSubmatch(line)
			if match == nil {
				continue
			}
			d, err := time.ParseDuration(match[2])
			must(m.t, err)
			if calls++; d > longest {
				longest = d
			}
			if d > answerWithin {
				m.t.Errorf("an answer came late: %s", line)
			}
		}
	}
	m.t.Logf("%d calls of Docker's were answered, the slowest after %v", calls, longest)
	if calls == 0 {
		m.t.Error("the agents' logs tell of no call")
	}
}
