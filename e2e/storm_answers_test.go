package e2e

import "regexp"

// excuse is an acceptable error of a command.
type excuse struct {
	because string
	says    *regexp.Regexp
}

// diskFull says what is full and what to do.
var diskFull = regexp.MustCompile(`the disk of the state directory is full, nothing was changed; make room there: .*no space left on device`)

// excuses are all acceptable errors. The first four are about the call that was under way when the
// agent was killed: dockerd got no answer and repeated it without success.
var excuses = []excuse{
	{"the agent was killed during the call", regexp.MustCompile(`Docker had no answer to the same call before, because the agent was ended, and repeats a call without its body; give the docker command again`)},
	{"the plugin was disabled", regexp.MustCompile(`the plugin is being stopped and has done nothing; give the docker command again`)},
	{"Docker found no agent for 15 s", regexp.MustCompile(`weft\.sock: connect: (no such file or directory|connection refused)`)},
	{"the agent was killed during the last repetition", regexp.MustCompile(`weft\.sock/\S+": (EOF|read unix .*: connection reset by peer|write unix .*: broken pipe)`)},
	{"a container has the address", regexp.MustCompile(`ipam: \S+ is held by .* on this host; stop that container or choose another address`)},
	{"the endpoint was deleted unheard", regexp.MustCompile(`ipam: \S+ is held by .* on this host, though Docker released it; .* free within three minutes: try again then`)},
	{"a container on another host has the address", regexp.MustCompile(`address \S+ is held by .* on host host\d; choose another --ip, or stop that container|host host\d keeps the address: .*(held by|ceded to) .*; choose another --ip`)},
	{"the address is between two containers", regexp.MustCompile(`is being (handed out or taken back|ceded to another host|taken into use) at this moment.*; try again|to cede; try again, its owner may have changed`)},
	{"the owner of the address was killed", regexp.MustCompile(`address \S+ .*host host\d, which .*; wait until it is back or choose another --ip`)},
	{"the disk is full", diskFull},
	{"no majority of the keepers at that moment", regexp.MustCompile(`nothing can be decided now: .*(must reach each other: .*; start those hosts or repair the network between them|try again)`)},
}
