package lab_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/lab"
	"github.com/weftnet/weft/lab/labtest"
	"github.com/weftnet/weft/turn"
)

func TestIntegrationTwoHosts(t *testing.T) {
	began := time.Now()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	t.Logf("two hosts up after %.1f s", time.Since(began).Seconds())
	t.Run("hosts look like hosts", func(t *testing.T) { looksLikeHosts(t, l) })
	t.Run("containers", func(t *testing.T) { containersRun(t, l) })
	t.Run("cut and heal", func(t *testing.T) { cutAndHeal(t, l) })
	t.Run("docker stops, is killed and starts", func(t *testing.T) { dockerComesBack(t, l) })
	t.Run("a host loses power", func(t *testing.T) { powerComesBack(t, l) })
	t.Run("up again adds a host", func(t *testing.T) { upAddsHosts(t, l) })
}

func looksLikeHosts(t *testing.T, l *lab.Lab) {
	ctx, one, two := t.Context(), l.Host(1), l.Host(2)
	for _, h := range l.Hosts() {
		if got := must(t)(h.Exec(ctx, "hostname")); got != h.Name() {
			t.Errorf("hostname is %q, want %q", got, h.Name())
		}
		route := must(t)(h.Exec(ctx, "ip", "route", "get", "192.0.2.1"))
		if !strings.Contains(route, "src "+h.Addr4().String()) {
			t.Errorf("%s: the default route's source is not its address: %s", h.Name(), route)
		}
		info := must(t)(h.Docker(ctx, "info", "--format", "{{.Name}} {{.DockerRootDir}}"))
		if want := h.Name() + " /var/lib/docker"; info != want {
			t.Errorf("docker info says %q, want %q", info, want)
		}
	}
	if a, b := must(t)(one.Docker(ctx, "info", "--format", "{{.ID}}")), must(t)(two.Docker(ctx, "info", "--format", "{{.ID}}")); a == b {
		t.Errorf("both engines have the id %s", a)
	}
}

func containersRun(t *testing.T, l *lab.Lab) {
	ctx, one, two := t.Context(), l.Host(1), l.Host(2)
	for _, h := range l.Hosts() {
		if got := must(t)(h.Docker(ctx, "run", "--rm", lab.BusyBoxImage, "echo", "works")); got != "works" {
			t.Errorf("a container on %s said %q", h.Name(), got)
		}
	}
	must(t)(two.Docker(ctx, "run", "-d", "--name", "web", "-p", "8080:80", "--hostname", "page-of-web", lab.WebImage))
	client := http.Client{Transport: &http.Transport{DialContext: one.Dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(fmt.Sprintf("http://%s:8080/", two.Addr4()))
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end) && turn.Sleep(ctx, 50*time.Millisecond); { // the container listens a moment after it was started
		resp, err = client.Get(fmt.Sprintf("http://%s:8080/", two.Addr4()))
	}
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(page) != "page-of-web\n" {
		t.Errorf("the page is %q, %v", page, err)
	}
	must(t)(two.Docker(ctx, "rm", "-f", "web"))
}

func dockerComesBack(t *testing.T, l *lab.Lab) {
	ctx, one := t.Context(), l.Host(1)
	must(t)(one.Docker(ctx, "run", "-d", "--name", "stays", "--restart", "always", lab.WebImage))
	pid := func() string {
		return must(t)(one.Docker(ctx, "inspect", "--format", "{{.State.Pid}}", "stays"))
	}
	before := pid()
	if err := one.RestartDocker(ctx, "--live-restore"); err != nil {
		t.Fatal(err)
	}
	restarted := pid()
	if restarted == before || restarted == "0" {
		t.Errorf("the container's process is %s, before the restart it was %s", restarted, before)
	}
	if err := one.KillDocker(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Docker(ctx, "ps"); err == nil {
		t.Error("docker answers after it was killed")
	}
	if err := one.RestartDocker(ctx); err != nil {
		t.Fatal(err)
	}
	if live := must(t)(one.Docker(ctx, "info", "--format", "{{.LiveRestoreEnabled}}")); live != "true" {
		t.Errorf("after a restart without arguments live restore is %s: the earlier ones were lost", live)
	}
	if got := pid(); got != restarted {
		t.Errorf("the container's process is %s, with live restore it should still be %s", got, restarted)
	}
}

func powerComesBack(t *testing.T, l *lab.Lab) {
	ctx, one, two := t.Context(), l.Host(1), l.Host(2)
	if err := one.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if reaches(ctx, two, one.Addr4().String()) {
		t.Error("a host that is off answers")
	}
	if _, err := one.Exec(ctx, "true"); err == nil || !strings.Contains(err.Error(), "switched off") {
		t.Errorf("running a program in it said: %v", err)
	}
	if err := one.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	wantReach(t, two, one, true)
	if got := must(t)(one.Docker(ctx, "inspect", "--format", "{{.State.Running}}", "stays")); got != "true" {
		t.Errorf("the container with a restart policy runs: %s", got)
	}
}

func upAddsHosts(t *testing.T, l *lab.Lab) {
	ctx, one := t.Context(), l.Host(1)
	again, err := lab.Up(ctx, lab.Config{Hosts: 3, Dir: l.Dir()})
	if err != nil {
		t.Fatal(err)
	}
	wantReach(t, again.Host(3), one, true)
	if got := must(t)(one.Docker(ctx, "inspect", "--format", "{{.State.Running}}", "stays")); got != "true" {
		t.Errorf("bringing up a lab that is up disturbed a container; it runs: %s", got)
	}
}

func cutAndHeal(t *testing.T, l *lab.Lab) {
	ctx, one, two := t.Context(), l.Host(1), l.Host(2)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	gateway := "10.99.0.254"
	wantReach(t, one, two, true)
	do(l.Cut(ctx, lab.Between(1, 2)))
	wantReach(t, one, two, false)
	wantReach(t, two, one, false)
	if !reaches(ctx, one, gateway) {
		t.Error("cutting a link to another host cut the gateway off too")
	}
	do(l.Heal(ctx, lab.Off(1)))
	wantReach(t, one, two, true)
	do(l.Cut(ctx, lab.Off(2)))
	wantReach(t, one, two, false)
	if reaches(ctx, two, gateway) {
		t.Error("a host that is cut off reaches the gateway")
	}
	do(l.Heal(ctx))
	wantReach(t, two, one, true)
	do(l.Cut(ctx, lab.OneWay(1, 2)))
	if got := delivered(t, one, two); got {
		t.Error("a datagram passed the cut direction")
	}
	if got := delivered(t, two, one); !got {
		t.Error("a datagram was lost in the open direction")
	}
	do(l.Heal(ctx, lab.OneWay(1, 2)))
	wantReach(t, one, two, true)
}

// delivered sends datagrams and reports whether they arrived. The neighbour is set by hand,
// because finding it needs both directions.
func delivered(t *testing.T, from, to *lab.Host) bool {
	t.Helper()
	const datagrams = 200
	mac := must(t)(to.Exec(t.Context(), "cat", "/sys/class/net/eth0/address"))
	must(t)(from.Exec(t.Context(), "ip", "neigh", "replace", to.Addr4().String(), "lladdr", mac, "dev", "eth0"))
	received := func() int {
		n, err := strconv.Atoi(must(t)(to.Exec(t.Context(), "cat", "/sys/class/net/eth0/statistics/rx_packets")))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := received()
	send := fmt.Sprintf("for i in {1..%d}; do echo >/dev/udp/%s/9 || true; done 2>/dev/null", datagrams, to.Addr4())
	must(t)(from.Exec(t.Context(), "bash", "-c", send))
	must(t)(from.Exec(t.Context(), "ip", "neigh", "del", to.Addr4().String(), "dev", "eth0"))
	return received()-before >= datagrams
}
