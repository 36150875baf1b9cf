package driver_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/attach"
	"github.com/weftnet/weft/attach/attachtest"
)

// seeds adds all recorded bodies of a method in testdata, and some malformed ones.
func seeds(f *testing.F, method string) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*-"+method+".json"))
	if err != nil || len(files) == 0 {
		f.Fatal("no bodies of", method, err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(body))
	}
	for _, body := range []string{"", "null", "{}", `{"Options":{"com.docker.network.generic":7}}`, `{"IPv4Data":[null]}`, `{"Interface":{}}`} {
		f.Add(body)
	}
}

// sane checks an answer. It must be a success, or an error with a text that a user can read.
// Anything else, such as an internal error, is a defect.
func sane(t *testing.T, body string, status int, answer string) {
	t.Helper()
	var failure struct{ Err string }
	err := json.Unmarshal([]byte(answer), &failure)
	if err != nil || (status == http.StatusOK) != (failure.Err == "") || strings.Contains(failure.Err, "failed inside") || len(failure.Err) > 2000 {
		t.Errorf("%q: %d %s", body, status, answer)
	}
}

// FuzzCreateNetwork: any body is a network that can be created again, kept over a
// restart and deleted, or an error that changes nothing.
func FuzzCreateNetwork(f *testing.F) {
	seeds(f, "CreateNetwork")
	f.Fuzz(func(t *testing.T, body string) {
		d := inMemory(t, attachtest.New())
		status, answer := d.say("CreateNetwork", body)
		sane(t, body, status, answer)
		if status != http.StatusOK {
			d.holds("")
			return
		}
		d.ok("CreateNetwork", body)
		d = inMemory(t, d.host)
		d.ok("CreateNetwork", body)
		for _, n := range d.attach.Networks() {
			for i, s := range n.Network.Subnets {
				if !s.IsValid() || s != s.Masked() || i > 0 && n.Network.Subnets[i-1].Addr().Is6() && s.Addr().Is4() {
					t.Errorf("%q: subnets %v", body, n.Network.Subnets)
				}
			}
			d.ok("DeleteNetwork", object{"NetworkID": n.ID})
		}
		d.holds("")
	})
}

// FuzzCreateEndpoint: the same for an endpoint of a network with two families.
func FuzzCreateEndpoint(f *testing.F) {
	seeds(f, "CreateEndpoint")
	f.Add(`{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.40.0.9/24","AddressIPv6":"fd00:40::9/64","MacAddress":""}}`)
	f.Add(`{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.40.0.9/24","MacAddress":"02:42:00:00:00:01"}}`)
	f.Fuzz(func(t *testing.T, body string) {
		d := inMemory(t, attachtest.New())
		d.ok("CreateNetwork", createNetwork("n", "10.40.0.0/24", "fd00:40::/64"))
		before := d.host.String()
		status, answer := d.say("CreateEndpoint", body)
		sane(t, body, status, answer)
		if status != http.StatusOK {
			d.holds(before)
			return
		}
		d.ok("CreateEndpoint", body)
		d = inMemory(t, d.host)
		d.ok("CreateEndpoint", body)
		for _, e := range d.attach.Endpoints() {
			n := d.attach.Networks()[0].Network
			for i, a := range []bool{!e.Endpoint.V4.IsValid() || n.Subnets[0].Contains(e.Endpoint.V4), !e.Endpoint.V6.IsValid() || n.Subnets[1].Contains(e.Endpoint.V6)} {
				if !a {
					t.Errorf("%q: address %d of %+v", body, i, e.Endpoint)
				}
			}
			if e.Endpoint.MAC.IsZero() {
				t.Errorf("%q: no MAC", body)
			}
			d.ok("Join", about("n", string(e.Endpoint.ID)))
			d.ok("DeleteEndpoint", about("n", string(e.Endpoint.ID)))
		}
		d.holds(before)
	})
}

// FuzzRecords: any records on disk are read or refused. What was read can be deleted, as Docker
// does after a restart.
func FuzzRecords(f *testing.F) {
	host := attachtest.New()
	d := inMemory(f, host)
	d.ok("CreateNetwork", createNetwork("n", "10.40.0.0/24", "fd00:40::/64"))
	d.ok("CreateEndpoint", `{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.40.0.9/24","AddressIPv6":"fd00:40::9/64"}}`)
	kept, err := host.Load()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("n", kept["network/n"], "e", kept["endpoint/e"])
	f.Add("n", []byte(`{"owner":"docker","id":"n","deleted":true}`), "e", []byte(`{"owner":"docker","endpoint":{"id":"e"},"evicted":"x"}`))
	f.Add("", []byte(`null`), "", []byte(`{}`))
	f.Fuzz(func(t *testing.T, network string, n []byte, endpoint string, e []byte) {
		host := attachtest.New()
		if err := host.Commit(map[string][]byte{"network/" + network: n, "endpoint/" + endpoint: e}); err != nil {
			t.Fatal(err)
		}
		if _, err := attach.New(host.Config()); err != nil {
			return
		}
		d := inMemory(t, host)
		for _, e := range d.attach.Endpoints() {
			d.attach.Holder(e.Endpoint.V4)
			status, answer := d.say("DeleteEndpoint", object{"NetworkID": e.LocalNetwork, "EndpointID": e.Endpoint.ID})
			sane(t, string(n)+string(e.Endpoint.ID), status, answer)
		}
		for _, n := range d.attach.Networks() {
			status, answer := d.say("DeleteNetwork", object{"NetworkID": n.ID})
			sane(t, n.ID, status, answer)
		}
	})
}
