package discover_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/discover"
)

// found are the addresses of entries, looked up once.
func found(t *testing.T, cfg discover.Config) (addrs, errs string) {
	t.Helper()
	p := open(t, cfg)
	var out []string
	for _, a := range p.Addrs(t.Context()) {
		out = append(out, a.String())
	}
	for _, f := range p.Report() {
		if f.Err != nil {
			errs += f.Err.Error() + "\n"
		}
	}
	return strings.Join(out, " "), errs
}

func TestNames(t *testing.T) {
	_, resolver := serveZone(
		t,
		"web-1. A 192.0.2.11", "both. A 192.0.2.12", "both. AAAA fd00::12",
		"peers.example. A 192.0.2.22", "peers.example. A 192.0.2.21", "me. A 127.0.1.1", "none. A 0.0.0.0",
		"_weft._tcp.example. SRV 0 0 8000 a.example.", "_weft._tcp.example. SRV 9 1 0 b.example.", "_weft._tcp.example. SRV 0 0 1 gone.example.",
		"a.example. A 192.0.2.31", "b.example. A 192.0.2.32", "_none._tcp. SRV 0 0 1 gone.example.",
	)
	for _, c := range []struct{ entry, want, err string }{
		{"192.0.2.9", "192.0.2.9:7950", ""},
		{"[fd00::9]:8000", "[fd00::9]:8000", ""},
		{"web-1", "192.0.2.11:7950", ""},
		{"web-1:8000", "192.0.2.11:8000", ""},
		{"both", "192.0.2.12:7950 [fd00::12]:7950", ""},
		{"dns+peers.example", "192.0.2.21:7950 192.0.2.22:7950", ""},
		{"dns+peers.example:8000", "192.0.2.21:8000 192.0.2.22:8000", ""},
		{"dnssrv+_weft._tcp.example", "192.0.2.31:8000 192.0.2.32:7950", "gone.example"},
		{"dnssrv+_none._tcp", "", "gone.example"},
		{"dnssrv+nothing.example", "", "no such host"},
		{"absent", "", "no such host"},
		{"me", "192.0.2.1:7950", ""}, // Debian's /etc/hosts
		{"127.0.0.1", "192.0.2.1:7950", ""},
		{"me:8000", "127.0.1.1:8000", ""},
		{"dns+me", "", "no address where a host could be"},
		{"none", "", "no address where a host could be"},
		{"exec:echo web-1:9000, 192.0.2.9 fd00::9; echo me", "192.0.2.1:7950 192.0.2.9:7950 192.0.2.11:9000 [fd00::9]:7950", ""},
		{"exec:true", "", "names no host"},
		{"exec:echo a/b 192.0.2.9", "192.0.2.9:7950", `"a/b" is no host`},
		{"exec:echo oh no >&2; exit 3", "", "exit status 3 oh no"},
	} {
		addrs, errs := found(t, discover.Config{Join: []string{c.entry}, Resolver: resolver})
		if addrs != c.want || !strings.Contains(errs, c.err) || (errs == "") != (c.err == "") {
			t.Errorf("%s gave %q and %q, want %q and %q", c.entry, addrs, errs, c.want, c.err)
		}
	}
}

// TestManyHostsBehindOneName: the answer does not fit into a datagram, and what is too
// much is left out and told.
func TestManyHostsBehindOneName(t *testing.T) {
	var records []string
	for n := range 1030 {
		records = append(records, fmt.Sprintf("many. A 10.1.%d.%d", n/256, n%256))
	}
	_, resolver := serveZone(t, records...)
	p := open(t, discover.Config{Join: []string{"dns+many"}, Resolver: resolver})
	if got := len(p.Addrs(t.Context())); got != 1024 {
		t.Errorf("%d addresses of 1030, want 1024; %v", got, p.Report()[0].Err)
	}
	script := filepath.Join(t.TempDir(), "many")
	if err := os.WriteFile(script, []byte("seq -f 10.1.0.%g 1 1 3\ni=0; while [ $i -lt 1030 ]; do echo 10.2.$((i/256)).$((i%256)); i=$((i+1)); done"), 0o600); err != nil {
		t.Fatal(err)
	}
	p = open(t, discover.Config{Join: []string{"exec:sh " + script}})
	if got := len(p.Addrs(t.Context())); got != 1024 || p.Report()[0].Err == nil {
		t.Errorf("%d addresses, %v; want 1024 and that the others are left out", got, p.Report()[0].Err)
	}
}

// agentsOf is what Mesos 1.11 answers at /slaves, shortened.
const agentsOf = `{"slaves":[
 {"id":"8b2f9d1c-0000-S0","hostname":"not-in-dns","port":5051,"attributes":{"rack":"a"},"pid":"slave(1)@192.0.2.41:5051","registered_time":1764400000.5,"resources":{"cpus":4.0,"ports":"[31000-32000]"},"active":true,"deactivated":false,"version":"1.11.0"},
 {"id":"8b2f9d1c-0000-S1","hostname":"192.0.2.142","port":5051,"pid":"slave(1)@192.0.2.42:5051","active":false,"deactivated":true,"version":"1.11.0"},
 {"id":"8b2f9d1c-0000-S2","hostname":"b","port":5051,"pid":"slave(1)@[fd00::43]:5051","active":true}],"recovered_slaves":[]}`

func TestMesosAgents(t *testing.T) {
	leader := serveHTTP(t, map[string]string{"/slaves": agentsOf, "/mesos/slaves": agentsOf})
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "//"+strings.TrimPrefix(leader.URL, "http://")+r.URL.Path) // as a master that does not lead
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer other.Close()
	var round *httptest.Server
	round = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, round.URL+r.URL.Path+"x", http.StatusTemporaryRedirect)
	}))
	defer round.Close()
	leaderless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("No leader elected"))
	}))
	defer leaderless.Close()
	const want = "192.0.2.41:7950 [fd00::43]:7950"
	for _, c := range []struct{ url, want, err string }{
		{leader.URL, want, ""},
		{leader.URL + "/mesos/", want, ""}, // behind Admin Router of DC/OS
		{other.URL, want, ""},
		{round.URL, "", "the 4. time"},
		{leaderless.URL, "", "No leader elected"},
		{serveHTTP(t, map[string]string{"/slaves": `{"slaves":[{"pid":"?","active":true}]}`}).URL, "", "no host"},
		{serveHTTP(t, map[string]string{"/slaves": `{"slaves":[]}`}).URL, "", "names no host"},
		{serveHTTP(t, map[string]string{"/slaves": `{"slaves":[{"pid":"slave(1)@127.0.0.1:5051"}]}`}).URL, "", "no address"},
		{serveHTTP(t, map[string]string{"/slaves": `{}`}).URL, "", "is it a Mesos master?"},
		{serveHTTP(t, map[string]string{"/slaves": `{"slaves":[` + strings.Repeat(" ", 17<<20) + `]}`}).URL, "", "too large"},
		{serveHTTP(t, map[string]string{"/slaves": `<html>`}).URL, "", "cannot be read"},
		{"http://127.0.0.1:1", "", "connection refused"},
	} {
		addrs, errs := found(t, discover.Config{Join: []string{"mesos+" + c.url}})
		if addrs != c.want || !strings.Contains(errs, c.err) || (errs == "") != (c.err == "") {
			t.Errorf("%s gave %q and %q, want %q and %q", c.url, addrs, errs, c.want, c.err)
		}
	}
}

// tasksOf is what Marathon 1.5 answers at /v2/apps/prod/weft/tasks, shortened.
const tasksOf = `{"tasks":[
 {"appId":"/prod/weft","host":"192.0.2.51","id":"prod_weft.1","ipAddresses":[{"ipAddress":"172.17.0.2","protocol":"IPv4"}],"ports":[31001],"servicePorts":[],"slaveId":"S0","stagedAt":"2026-11-29T05:31:00Z","startedAt":"2026-11-29T05:31:02Z","state":"TASK_RUNNING","version":"2026-11-29T05:30:00Z"},
 {"appId":"/prod/weft","host":"agent-2.example","id":"prod_weft.2","ports":[31002],"state":"TASK_STAGING","startedAt":null}]}`

func TestMarathonTasks(t *testing.T) {
	_, resolver := serveZone(t, "agent-2.example. A 192.0.2.52")
	s := serveHTTP(t, map[string]string{"/v2/apps/prod/weft/tasks": tasksOf, "/v2/apps/odd/tasks": `[]`, "/v2/apps/new/tasks": `{"tasks":[]}`, "/v2/apps/null/tasks": `{}`})
	for _, c := range []struct{ path, want, err string }{
		{"/prod/weft", "192.0.2.51:7950 192.0.2.52:7950", ""},
		{"/prod/weft/", "192.0.2.51:7950 192.0.2.52:7950", ""},
		{"/absent", "", "does not exist"},
		{"/odd", "", "cannot be read"},
		{"/new", "", "names no host"},
		{"/null", "", "is it Marathon?"},
	} {
		addrs, errs := found(t, discover.Config{Join: []string{"marathon+" + s.URL + c.path}, Resolver: resolver})
		if addrs != c.want || !strings.Contains(errs, c.err) || (errs == "") != (c.err == "") {
			t.Errorf("%s gave %q and %q, want %q and %q", c.path, addrs, errs, c.want, c.err)
		}
	}
}

// TestACommandIsBounded: what it prints, and what it leaves behind.
func TestACommandIsBounded(t *testing.T) {
	t.Parallel()
	pid := filepath.Join(t.TempDir(), "pid")
	for _, c := range []struct{ command, err string }{
		{"yes 192.0.2.9", "more than 65536 bytes"},
		{"yes >&2 & sleep 0.1; kill $!; exit 1", "exit status 1"},
		{"sleep 1000 & echo $! >" + pid + "; echo 192.0.2.9", "leaves a process behind"},
		{"env | grep -v -e ^PATH= -e ^PWD= -e ^SHLVL= -e ^_=", "exit status 1"}, // nothing of the agent's
	} {
		addrs, errs := found(t, discover.Config{Join: []string{"exec:" + c.command}})
		if addrs != "" || !strings.Contains(errs, c.err) {
			t.Errorf("%s gave %q and %q, want %q", c.command, addrs, errs, c.err)
		}
	}
	gone(t, pid)
}

// TestACommandThatHangsIsKilled with all that it started.
func TestACommandThatHangsIsKilled(t *testing.T) {
	t.Parallel()
	pid := filepath.Join(t.TempDir(), "pid")
	began := time.Now()
	addrs, errs := found(t, discover.Config{Join: []string{"exec:sleep 1000 & echo $! >" + pid + "; wait"}})
	if addrs != "" || !strings.Contains(errs, "runs for more than 10s") || time.Since(began) > 15*time.Second {
		t.Errorf("after %v it gave %q and %q", time.Since(began), addrs, errs)
	}
	gone(t, pid)
}

// gone waits until a process has ended.
func gone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second); ; {
		defer cancel()
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") || syscall.Kill(pid, 0) != nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("process %d of the command still runs", pid)
		}
	}
}

// TestAPartOfTheAgentsFoundsNothing: after an election the master knows some agents of which it has only the hostnames. They
// are peers, but nobody founds with them as if there were no others.
func TestAPartOfTheAgentsFoundsNothing(t *testing.T) {
	some := `{"slaves":[{"pid":"slave(1)@192.0.2.41:5051"}],"recovered_slaves":[{"hostname":"b"}]}`
	p := open(t, discover.Config{Join: []string{"mesos+" + serveHTTP(t, map[string]string{"/slaves": some}).URL}})
	for name, addrs := range p.Seeds(t.Context()) {
		if len(addrs) != 0 {
			t.Errorf("%s counts with %v", name, addrs)
		}
	}
	if got := fmt.Sprint(p.Addrs(t.Context())); got != "[192.0.2.41:7950]" || !strings.Contains(fmt.Sprint(p.Report()[0].Err), "1 agents have not registered") {
		t.Errorf("peers %s, %v", got, p.Report()[0].Err)
	}
}

// TestSeedsNameWhatIsNotFound: for founding together every host that is named counts,
// found or not, and what a peer was connected or forgotten for does not.
func TestSeedsNameWhatIsNotFound(t *testing.T) {
	_, resolver := serveZone(t, "web-1. A 192.0.2.11")
	p := open(t, discover.Config{Join: []string{"web-1", "gone", "exec:echo 192.0.2.9 gone", "exec:echo gone lost", "192.0.2.3:7950"}, Resolver: resolver})
	if _, err := p.Connect(t.Context(), "192.0.2.77"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Forget(t.Context(), "192.0.2.3"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, addrs := range p.Seeds(t.Context()) {
		got = append(got, fmt.Sprint(name, " = ", addrs))
	}
	slices.Sort(got)
	want := []string{
		"192.0.2.3:7950 = [192.0.2.3:7950]",
		"exec:echo 192.0.2.9 gone (gone) = []",
		"exec:echo 192.0.2.9 gone = [192.0.2.9:7950]",
		"exec:echo gone lost (gone) = []",
		"exec:echo gone lost (lost) = []",
		"gone:7950 = []",
		"web-1:7950 = [192.0.2.11:7950]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// until looks entries up again and again, as their users do.
func until(t *testing.T, p *discover.Peers, want string) {
	t.Helper()
	var got string
	for ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second); ctx.Err() == nil; {
		defer cancel()
		if got = fmt.Sprint(p.Addrs(ctx)); got == want {
			return
		}
	}
	t.Fatalf("it gives %s, want %s", got, want)
}

// TestEntriesAreLookedUpForEver: whatever a name gave at first, it is asked again, not
// with each call; and that it gives nothing is told once.
func TestEntriesAreLookedUpForEver(t *testing.T) {
	t.Parallel()
	z, resolver := serveZone(t)
	var log journal
	p := open(t, discover.Config{Join: []string{"dns+peers", "192.0.2.7"}, Resolver: resolver, Log: log.logger()})
	for range 100 {
		if got := fmt.Sprint(p.Addrs(t.Context())); got != "[192.0.2.7:7950]" {
			t.Fatalf("a name that is not found does harm: %s", got)
		}
	}
	if n := z.questions(); n > 4 {
		t.Errorf("100 calls made %d questions", n)
	}
	for z.questions() < 5 { // a look-up asks two
		p.Addrs(t.Context())
	}
	z.set("peers. A 192.0.2.21")
	until(t, p, "[192.0.2.21:7950 192.0.2.7:7950]")
	z.set()
	until := time.Now().Add(3 * time.Second)
	for p.Report()[0].Err == nil && time.Now().Before(until) {
		p.Addrs(t.Context())
	}
	r := p.Report()[0]
	if r.Err == nil || fmt.Sprint(r.Addrs) != "[192.0.2.21:7950]" || r.At.IsZero() {
		t.Errorf("what it gave last is %v, at %v, and the error %v", r.Addrs, r.At, r.Err)
	}
	if got := fmt.Sprint(p.Addrs(t.Context())); got != "[192.0.2.21:7950 192.0.2.7:7950]" {
		t.Errorf("what was found last is tried on, not %s", got)
	}
	if got := p.Seeds(t.Context())["dns+peers"]; got != nil {
		t.Errorf("for founding it is not known, not %v", got)
	}
	if got := log.String(); strings.Count(got, "cannot be found") != 2 || strings.Count(got, "found again") != 1 {
		t.Errorf("it tells\n%s", got)
	}
}

func TestAddrsEndWithTheirCaller(t *testing.T) {
	hangs := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hangs:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(hangs)
	p := open(t, discover.Config{Join: []string{"mesos+" + s.URL, "192.0.2.7"}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := fmt.Sprint(p.Addrs(ctx)); got != "[192.0.2.7:7950]" {
		t.Errorf("got %s", got)
	}
	if err := p.Report()[0].Err; err != nil {
		t.Errorf("that its caller ended is no fault of the entry: %v", err)
	}
}

// FuzzParse: what is shown of an entry is read as the same entry.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a", "a:1", "[fd00::1]:2", "dns+a", "dnssrv+_a._tcp.b", "mesos+http://m:5050", "marathon+http://m:8080/a", "exec:x y", "192.0.2.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		e, err := discover.Parse(word, 7950)
		if err != nil {
			return
		}
		again, err := discover.Parse(e.String(), 1)
		if err != nil || again.String() != e.String() {
			t.Errorf("%q is shown as %q, which is %q, %v", word, e, again, err)
		}
	})
}
