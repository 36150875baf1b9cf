package plugin_test

import (
	"fmt"
	"testing"
	"time"
)

const (
	firstSecret  = "first-secret-of-the-cluster"
	secondSecret = "second-secret-of-the-cluster"
)

func withSecret(list string) func(*host) { return func(h *host) { h.set.Secret = list } }

// TestNobodyJoinsWithoutTheSecret, and both sides say why. Who gets it joins.
func TestNobodyJoinsWithoutTheSecret(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, withSecret(firstSecret))
		network := hosts[0].network("web", "10.40.0.0/24")
		hosts[2].until("the replica", 10*time.Second, func() bool { return hosts[2].lookup("web") != "" })
		hosts[0].run("one", network, "")
		for list, words := range map[string][]string{"": {"has a secret (WEFT_SECRET) and the other none"}, secondSecret: {"this host has secret", "set the same WEFT_SECRET on both"}} {
			known := len(hosts[0].View().Hosts)
			stranger := c.host(hosts[0])
			stranger.set.Secret = list
			stranger.start()
			stranger.problem(30*time.Second, append(words, "the host at 192.0.2.1 is refused")...)
			hosts[0].problem(30*time.Second, append(words, "the host at "+stranger.addr.String()+" is refused")...)
			if got := len(hosts[0].View().Hosts); got != known || stranger.Report().State == "ready" {
				t.Errorf("the cluster has %d hosts, the stranger is %s", got, stranger.Report().State)
			}
			stranger.stop()
			stranger.set.Secret = firstSecret
			stranger.start()
			stranger.ready()
			stranger.removed(hosts[0])
			stranger.stop()
			stranger.heal()
		}
		hosts[0].until("they are forgotten", 12*time.Minute, func() bool { return len(hosts[0].Report().Problems) == 0 })
	})
}

// TestSecretsAreExchangedOneHostAfterTheOther: from none to one, to another one and back to none. Whoever is restarted
// is a member again, and the cluster decides all the time.
func TestSecretsAreExchangedOneHostAfterTheOther(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		hosts := up(c, 3, unreplicated)
		n := 0
		for _, list := range []string{
			"none," + firstSecret, firstSecret, secondSecret + "," + firstSecret, firstSecret + "," + secondSecret, secondSecret, "none," + secondSecret, "none",
		} {
			for _, h := range hosts {
				h.set.Secret = list
				h.restart()
				h.ready()
				for _, o := range hosts {
					o.until(fmt.Sprintf("all see all after %s has %s", h.set.Name, list), time.Minute, func() bool { return alive(o) == 3 })
				}
				n++
				h.network(fmt.Sprint("n", n), fmt.Sprintf("10.40.%d.0/24", n))
			}
			for _, h := range hosts {
				h.until("no problem is left", time.Minute, func() bool { return len(h.Report().Problems) == 0 })
			}
		}
		if got := hosts[2].Report().Secrets; len(got) != 0 {
			t.Errorf("without a secret it shows %q", got)
		}
	})
}
